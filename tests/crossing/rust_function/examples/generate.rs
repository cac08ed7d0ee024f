//! Makes src/dev.rs anew from dev.Echo's .proto: `PROTOC=… cargo run --example generate`, from this folder.
fn main() -> std::io::Result<()> {
    let root = "../../..";
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir("src")
        .compile_protos(&[format!("{root}/lambda_fn/examples/echo.proto")], &[root.to_string()])
}
