// A server of grpc-js with dev.Echo's BidiStream, which answers each message when it comes.
// Usage: chat_server.js ADDRESS
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const file = path.join(__dirname, '../../../lambda_fn/examples/echo.proto');
const { Echo } = grpc.loadPackageDefinition(loader.loadSync(file, { keepCase: true, defaults: true })).dev;

const server = new grpc.Server();
server.addService(Echo.service, {
  bidiStream(call) {
    call.on('data', ({ text }) => call.write({ text: `re: ${text}` }));
    call.on('end', () => call.end());
    call.on('cancelled', () => console.log('the call was cancelled'));
  },
});
server.bindAsync(process.argv[2], grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
