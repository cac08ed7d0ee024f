// A Connect server as a Web Function runs it: HTTP/1.1 on AWS_LAMBDA_HTTP_ENDPOINT. DESCRIPTORS names a file with the
// descriptors of echo.proto.
const fs = require('fs');
const http = require('http');
const { createFileRegistry, fromBinary } = require('@bufbuild/protobuf');
const { FileDescriptorSetSchema, StringValueSchema } = require('@bufbuild/protobuf/wkt');
const { Code, ConnectError } = require('@connectrpc/connect');
const { connectNodeAdapter } = require('@connectrpc/connect-node');

const files = createFileRegistry(fromBinary(FileDescriptorSetSchema, fs.readFileSync(process.env.DESCRIPTORS)));

const routes = (router) =>
  router.service(files.getService('dev.Echo'), {
    unary(request, context) {
      context.responseHeader.set('x-initial', 'one');
      context.responseTrailer.set('x-trailing', 'two');
      const metadata = ['x-up', 'lambda-web-endpoint-name', 'lambda-web-forged', 'x-forwarded-for']
        .filter((name) => context.requestHeader.has(name))
        .map((name) => ({ name, value: { case: 'text', value: context.requestHeader.get(name) } }));
      return { text: request.text, metadata };
    },
    async *serverStream(request) {
      for (let index = 0; index < (request.count || 3); index++) {
        await new Promise((resolve) => setTimeout(resolve, request.delay * 1000));
        if (request.failAfter && index === request.failAfter) throw new ConnectError('enough', Code.Aborted);
        yield { text: request.text, index };
      }
    },
    async clientStream(requests) {
      const texts = [];
      for await (const request of requests) texts.push(request.text);
      return { text: texts.join(' ') };
    },
    fail(request) {
      const details = request.details.map((value) => ({ desc: StringValueSchema, value: { value } }));
      throw new ConnectError(request.message, request.code, { 'x-trailing': 'two' }, details);
    },
    exit(request) {
      process.exit(request.code);
    },
    async sleep(request) {
      await new Promise((resolve) => setTimeout(resolve, request.seconds * 1000));
      return {};
    },
    big(request) {
      return { data: new Uint8Array(Number(request.size)) };
    },
  });

const [host, port] = process.env.AWS_LAMBDA_HTTP_ENDPOINT.split(':');
http.createServer(connectNodeAdapter({ routes })).listen(Number(port), host);
