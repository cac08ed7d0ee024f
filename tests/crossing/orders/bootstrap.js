// The smallest Runtime API loop: one invocation after another, as AWS's Node runtime runs a handler. Usage: bootstrap.js [MODULE]
'use strict';

const { handler } = require(process.argv[2] ?? './plain.js');

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

async function serve() {
  const next = await fetch(`${api}/next`);
  const id = next.headers.get('lambda-runtime-aws-request-id');
  const clientContext = JSON.parse(next.headers.get('lambda-runtime-client-context') ?? 'null');
  const post = (where, value) =>
    fetch(`${api}/${id}/${where}`, { method: 'POST', body: JSON.stringify(value ?? null) });
  try {
    await post('response', await handler(await next.json(), { awsRequestId: id, clientContext }));
  } catch (error) {
    await post('error', { errorType: error.name, errorMessage: error.message, trace: [] });
  }
}

(async () => {
  for (;;) await serve();
})();
