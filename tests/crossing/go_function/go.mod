module grpc-lambda-bridge/tests/crossing/go_function

go 1.26.0

require (
	connectrpc.com/connect v1.21.1
	github.com/aws/aws-lambda-go v1.55.1
	github.com/awslabs/aws-lambda-go-api-proxy v0.16.2
	google.golang.org/protobuf v1.36.12
)
