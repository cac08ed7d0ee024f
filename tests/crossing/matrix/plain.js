// dev.Echo as a plain Node function: JSON in, JSON out, errors thrown; below it the loop that AWS's Node runtime is.
'use strict';

const CODES = { 5: 'NotFound', 9: 'FAILED_PRECONDITION', 10: 'Aborted' };
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const failure = (name, message) => Object.assign(new Error(message), { name });

async function handler(event, { clientContext: { custom } }) {
  const padded = (text) => text.padEnd(Math.ceil(text.length / 4) * 4, '=');
  const metadata = Object.entries(custom).flatMap(([name, value]) =>
    name.endsWith('-bin')
      ? value.split(',').map((part) => ({ name, binary: padded(part) }))
      : [{ name, text: value }],
  );
  switch (custom['grpc-method'].split('/')[2]) {
    case 'Unary':
    case 'BidiStream':
      return { text: event.text, index: 0, metadata };
    case 'ServerStream':
      if (event.failAfter) throw failure('Aborted', `failed after ${event.failAfter}, as asked`);
      await sleep((event.delay ?? 0) * event.count);
      return { text: event.text, index: 0, metadata };
    case 'Fail':
      throw failure(CODES[event.code], event.message);
    case 'Raise':
      throw new Error(event.message);
    case 'Sleep':
    case 'SleepAsync':
      return sleep(event.seconds);
    case 'Big':
      return { data: Buffer.alloc(Number(event.size)).toString('base64') };
  }
}

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

async function serve() {
  const next = await fetch(`${api}/next`);
  const id = next.headers.get('lambda-runtime-aws-request-id');
  const clientContext = JSON.parse(next.headers.get('lambda-runtime-client-context') ?? 'null');
  const post = (where, value) =>
    fetch(`${api}/${id}/${where}`, { method: 'POST', body: JSON.stringify(value ?? null) });
  try {
    await post('response', await handler(await next.json(), { clientContext }));
  } catch (error) {
    await post('error', { errorType: error.name, errorMessage: error.message, trace: [] });
  }
}

(async () => {
  for (;;) await serve();
})();
