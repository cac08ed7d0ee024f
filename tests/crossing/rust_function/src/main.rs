//! dev.Echo by tonic, moved to Lambda by lambda-grpc-web: only `main` knows where it runs.
//!
//! `SERVE=envoy` takes the events of Envoy's aws_lambda filter, anything else those of a function URL.
mod dev;

use std::{env, pin::Pin, process, time::Duration};

use dev::echo_server::{Echo, EchoServer};
use dev::*;
use lambda_grpc_web::{LambdaServer, lambda_runtime::Error};
use prost::Message;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::codec::CompressionEncoding;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

type Replies = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;

struct Servicer;

#[tonic::async_trait]
impl Echo for Servicer {
    type ServerStreamStream = Replies;
    type BidiStreamStream = Replies;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        let mut response = Response::new(reply(request.metadata(), request.get_ref(), 0));
        // tonic has no trailing metadata for a unary call that succeeds.
        *response.metadata_mut() = named(request.metadata(), "echo-initial-");
        Ok(response)
    }

    async fn server_stream(&self, request: Request<EchoRequest>) -> Result<Response<Replies>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let initial = named(&metadata, "echo-initial-");
        let count = if asked.count == 0 { 3 } else { asked.count };
        let failing = asked.fail_after != 0;
        let given = if failing { asked.fail_after } else { count };
        let failure = failing.then(|| Err(Status::aborted(format!("failed after {given}, as asked"))));
        let delay = Duration::from_secs_f64(asked.delay);
        // Nothing may follow an error: tonic-web would write it behind the trailers.
        let replies = iter(0..given).map(move |index| Ok(reply(&metadata, &asked, index))).chain(iter(failure));
        let mut response = Response::new(Box::pin(replies.then(move |answer| async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            answer
        })) as Replies);
        *response.metadata_mut() = initial;
        Ok(response)
    }

    async fn client_stream(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<EchoReply>, Status> {
        let received: Vec<EchoRequest> = request.into_inner().collect::<Result<_, _>>().await?;
        let texts: Vec<&str> = received.iter().map(|request| request.text.as_str()).collect();
        let index = texts.len() as u32;
        Ok(Response::new(EchoReply { text: texts.join(" "), index, ..Default::default() }))
    }

    async fn bidi_stream(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Replies>, Status> {
        let (metadata, _, requests) = request.into_parts();
        let mut count = 0;
        Ok(Response::new(Box::pin(requests.map(move |request| {
            count += 1;
            Ok(reply(&metadata, &request?, count - 1))
        }))))
    }

    async fn fail(&self, request: Request<FailRequest>) -> Result<Response<EchoReply>, Status> {
        let trailing = named(request.metadata(), "echo-trailing-");
        let FailRequest { code, message, details } = request.into_inner();
        let packed = details.iter().map(|text| Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".into(),
            value: StringValue { value: text.clone() }.encode_to_vec(),
        });
        let rich = RichStatus { code, message: message.clone(), details: packed.collect() };
        Err(Status::with_details_and_metadata(Code::from(code), message, rich.encode_to_vec().into(), trailing))
    }

    async fn raise(&self, request: Request<RaiseRequest>) -> Result<Response<EchoReply>, Status> {
        panic!("{}", request.into_inner().message)
    }

    async fn exit(&self, request: Request<ExitRequest>) -> Result<Response<EchoReply>, Status> {
        process::exit(request.into_inner().code)
    }

    async fn sleep(&self, request: Request<SleepRequest>) -> Result<Response<SleepReply>, Status> {
        tokio::time::sleep(Duration::from_secs_f64(request.into_inner().seconds)).await;
        Ok(Response::new(SleepReply::default()))
    }

    async fn sleep_async(&self, request: Request<SleepRequest>) -> Result<Response<SleepReply>, Status> {
        self.sleep(request).await
    }

    async fn big(&self, request: Request<BigRequest>) -> Result<Response<BigReply>, Status> {
        // Bytes that no compression makes fewer.
        let mut state = 1_u32;
        let data = (0..request.into_inner().size).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Ok(Response::new(BigReply { data: data.collect() }))
    }
}

fn reply(metadata: &MetadataMap, request: &EchoRequest, index: u32) -> EchoReply {
    let metadata = metadata.iter().filter_map(|pair| {
        let (name, value) = match pair {
            KeyAndValueRef::Ascii(name, value) => {
                (name.to_string(), metadatum::Value::Text(value.to_str().ok()?.into()))
            }
            KeyAndValueRef::Binary(name, value) => {
                (name.to_string(), metadatum::Value::Binary(value.to_bytes().ok()?.to_vec()))
            }
        };
        Some(Metadatum { name, value: Some(value) })
    });
    EchoReply { text: request.text.clone(), index, metadata: metadata.collect(), ..Default::default() }
}

/// The metadata whose names begin so.
fn named(metadata: &MetadataMap, prefix: &str) -> MetadataMap {
    let mut found = MetadataMap::new();
    for pair in metadata.iter() {
        match pair {
            KeyAndValueRef::Ascii(name, value) if name.as_str().starts_with(prefix) => {
                found.append(name.clone(), value.clone());
            }
            KeyAndValueRef::Binary(name, value) if name.as_str().starts_with(prefix) => {
                found.append_bin(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    found
}

/// google.rpc.Status and what it holds: three messages, not worth a crate.
#[derive(prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(prost::Message)]
struct StringValue {
    #[prost(string, tag = "1")]
    value: String,
}

/// Calls for /any.Name/Method go to /dev.Echo/Method.
fn renamed(mut request: http::Request<Body>) -> http::Request<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    *request.uri_mut() = format!("/dev.Echo/{method}").parse().unwrap();
    request
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let echo = EchoServer::new(Servicer)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let server = LambdaServer::builder().layer(MapRequestLayer::new(renamed)).add_service(echo);
    match env::var("SERVE").as_deref() {
        Ok("envoy") => server.serve_envoy().await,
        _ => server.serve_apigw_http().await,
    }
}
