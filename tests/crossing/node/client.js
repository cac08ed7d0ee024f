// grpc-js against the bridge: one JSON line for each thing it saw. Usage: client.js ADDRESS
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const root = path.join(__dirname, '../../..');
const load = (file) =>
  grpc.loadPackageDefinition(
    loader.loadSync(path.join(root, 'lambda_fn/examples', file), { keepCase: true, defaults: true }),
  );
const { Echo } = load('echo.proto').dev;
const { Greeter } = load('helloworld.proto').helloworld;
const credentials = grpc.credentials.createInsecure();
const echo = new Echo(process.argv[2], credentials);
const greeter = new Greeter(process.argv[2], credentials);

const tell = (name, value) => console.log(JSON.stringify({ name, value }));
const unary = (client, method, request, metadata = new grpc.Metadata(), options = {}) =>
  new Promise((resolve) => {
    const seen = {};
    const call = client[method](request, metadata, options, (error, reply) => {
      seen.error = error && { code: error.code, details: error.details };
      seen.reply = reply;
    });
    call.on('metadata', (initial) => (seen.initial = initial.getMap()));
    call.on('status', (status) => {
      seen.trailing = status.metadata.toJSON();
      resolve(seen);
    });
  });
const collect = (call) =>
  new Promise((resolve) => {
    const texts = [];
    call.on('data', (reply) => texts.push(reply.text));
    call.on('error', () => {});
    call.on('status', (status) => resolve({ texts, code: status.code }));
  });

(async () => {
  tell('unary', (await unary(greeter, 'SayHello', { name: 'js' })).reply.message);

  const metadata = new grpc.Metadata();
  metadata.add('echo-initial-a', 'one');
  metadata.add('echo-trailing-b-bin', Buffer.from([0, 255]));
  const echoed = await unary(echo, 'Unary', { text: 'x' }, metadata);
  tell('initial', echoed.initial['echo-initial-a']);
  tell('trailing', [...echoed.trailing['echo-trailing-b-bin'][0]]);

  tell('error', (await unary(echo, 'Fail', { code: 5, message: 'gone' })).error);
  const late = await unary(echo, 'Sleep', { seconds: 5 }, undefined, { deadline: Date.now() + 300 });
  tell('deadline', late.error.code);
  tell('server_stream', await collect(echo.ServerStream({ text: 's', count: 3 })));
  tell('failing_stream', await collect(echo.ServerStream({ text: 's', count: 3, fail_after: 1 })));
  const bidi = echo.BidiStream();
  const collected = collect(bidi);
  bidi.write({ text: 'a' });
  bidi.write({ text: 'b' });
  bidi.end();
  tell('bidi', await collected);
  echo.close();
  greeter.close();
})();
