// dev.Echo by connect-go, on Lambda by aws-lambda-go: the same http.Handler as anywhere else, behind the event that EVENT names.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdaurl"
	"github.com/awslabs/aws-lambda-go-api-proxy/httpadapter"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"grpc-lambda-bridge/tests/crossing/go_function/dev"
	"grpc-lambda-bridge/tests/crossing/go_function/dev/devconnect"
)

func main() {
	// Behind lambdaurl a panic is a race between an empty reply and the end of the process.
	recovering := connect.WithRecover(func(_ context.Context, _ connect.Spec, _ http.Header, panicked any) error {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("%v", panicked))
	})
	_, served := devconnect.NewEchoHandler(echo{}, recovering)
	// Calls for /any.Name/Method go to /dev.Echo/Method.
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		request.URL.Path = "/" + devconnect.EchoName + "/" + path.Base(request.URL.Path)
		served.ServeHTTP(flushing{writer}, request)
		writer.Write(nil) // a reply without a body has a status, too: net/http sees to it, aws-lambda-go-api-proxy does not
	})
	switch event := os.Getenv("EVENT"); event {
	case "url": // the reply is streamed
		lambdaurl.Start(handler)
	case "http-v2":
		lambda.Start(httpadapter.NewV2(handler).ProxyWithContext)
	case "http-v1":
		lambda.Start(httpadapter.New(handler).ProxyWithContext)
	case "alb":
		lambda.Start(httpadapter.NewALB(handler).ProxyWithContext)
	case "none": // a server: gRPC over HTTP/2 and gRPC-Web over HTTP/1.1 on the address of the first argument
		server := &http.Server{Addr: os.Args[1], Handler: handler, Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		panic(server.ListenAndServe())
	default:
		panic("EVENT is " + event)
	}
}

// connect-go streams to an http.Flusher only, which the writers of lambdaurl and aws-lambda-go-api-proxy are not: they hold nothing back.
type flushing struct{ http.ResponseWriter }

func (w flushing) Flush() {
	if flusher, can := w.ResponseWriter.(http.Flusher); can {
		flusher.Flush()
	}
}

type echo struct{}

func (echo) Unary(_ context.Context, request *connect.Request[dev.EchoRequest]) (*connect.Response[dev.EchoReply], error) {
	response := connect.NewResponse(reply(request.Header(), request.Msg, 0))
	copyNamed(response.Header(), request.Header(), "echo-initial-")
	copyNamed(response.Trailer(), request.Header(), "echo-trailing-")
	return response, nil
}

func (echo) ServerStream(_ context.Context, request *connect.Request[dev.EchoRequest], stream *connect.ServerStream[dev.EchoReply]) error {
	copyNamed(stream.ResponseHeader(), request.Header(), "echo-initial-")
	copyNamed(stream.ResponseTrailer(), request.Header(), "echo-trailing-")
	count := request.Msg.Count
	if count == 0 {
		count = 3
	}
	for index := range count {
		if request.Msg.FailAfter != 0 && index == request.Msg.FailAfter {
			return connect.NewError(connect.CodeAborted, fmt.Errorf("failed after %d, as asked", index))
		}
		time.Sleep(seconds(request.Msg.Delay))
		if err := stream.Send(reply(request.Header(), request.Msg, index)); err != nil {
			return err
		}
	}
	return nil
}

func (echo) ClientStream(_ context.Context, stream *connect.ClientStream[dev.EchoRequest]) (*connect.Response[dev.EchoReply], error) {
	var texts []string
	for stream.Receive() {
		texts = append(texts, stream.Msg().Text)
	}
	return connect.NewResponse(&dev.EchoReply{Text: strings.Join(texts, " "), Index: uint32(len(texts))}), stream.Err()
}

func (echo) BidiStream(_ context.Context, stream *connect.BidiStream[dev.EchoRequest, dev.EchoReply]) error {
	for index := uint32(0); ; index++ {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(reply(stream.RequestHeader(), request, index)); err != nil {
			return err
		}
	}
}

func (echo) Fail(_ context.Context, request *connect.Request[dev.FailRequest]) (*connect.Response[dev.EchoReply], error) {
	failure := connect.NewError(connect.Code(request.Msg.Code), errors.New(request.Msg.Message))
	for _, text := range request.Msg.Details {
		detail, err := connect.NewErrorDetail(wrapperspb.String(text))
		if err != nil {
			return nil, err
		}
		failure.AddDetail(detail)
	}
	copyNamed(failure.Meta(), request.Header(), "echo-trailing-")
	return nil, failure
}

func (echo) Raise(_ context.Context, request *connect.Request[dev.RaiseRequest]) (*connect.Response[dev.EchoReply], error) {
	panic(request.Msg.Message)
}

func (echo) Exit(_ context.Context, request *connect.Request[dev.ExitRequest]) (*connect.Response[dev.EchoReply], error) {
	os.Exit(int(request.Msg.Code))
	return nil, nil
}

func (echo) Sleep(_ context.Context, request *connect.Request[dev.SleepRequest]) (*connect.Response[dev.SleepReply], error) {
	time.Sleep(seconds(request.Msg.Seconds))
	return connect.NewResponse(&dev.SleepReply{}), nil
}

func (e echo) SleepAsync(ctx context.Context, request *connect.Request[dev.SleepRequest]) (*connect.Response[dev.SleepReply], error) {
	return e.Sleep(ctx, request)
}

func (echo) Big(_ context.Context, request *connect.Request[dev.BigRequest]) (*connect.Response[dev.BigReply], error) {
	data := make([]byte, request.Msg.Size)
	state := uint32(1)
	for at := range data { // bytes that no compression makes fewer
		state = state*1664525 + 1013904223
		data[at] = byte(state >> 24)
	}
	return connect.NewResponse(&dev.BigReply{Data: data}), nil
}

func reply(metadata http.Header, request *dev.EchoRequest, index uint32) *dev.EchoReply {
	answer := &dev.EchoReply{Text: request.Text, Index: index}
	for name, values := range metadata {
		name = strings.ToLower(name)
		for _, value := range values {
			if !strings.HasSuffix(name, "-bin") {
				answer.Metadata = append(answer.Metadata, &dev.Metadatum{Name: name, Value: &dev.Metadatum_Text{Text: value}})
				continue
			}
			for _, part := range strings.Split(value, ",") { // AWS joins values of one name
				decoded, err := connect.DecodeBinaryHeader(part)
				if err != nil {
					panic(err)
				}
				answer.Metadata = append(answer.Metadata, &dev.Metadatum{Name: name, Value: &dev.Metadatum_Binary{Binary: decoded}})
			}
		}
	}
	return answer
}

func copyNamed(to, from http.Header, prefix string) {
	for name, values := range from {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			to[name] = values
		}
	}
}

func seconds(count float64) time.Duration {
	return time.Duration(count * float64(time.Second))
}
