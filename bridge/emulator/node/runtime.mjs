// Runs a function's handler in Node.js: takes invocations from the Lambda Runtime API, calls the handler, sends back what
// it gives. The local Lambda starts it as `node runtime.mjs index.handler`. It needs Node.js 18 or later and no package.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

import { AsyncLocalStorage } from "node:async_hooks";
import fs from "node:fs";
import http from "node:http";
import inspector from "node:inspector";
import util from "node:util";

import { load, RuntimeFault } from "./handler.mjs";

const PREFIX = "/2018-06-01/runtime";
const [HOST, PORT] = splitAddress(process.env.AWS_LAMBDA_RUNTIME_API ?? "");
const AT_ONCE = Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY ?? "1");
const EXIT_CODE = 1;
process.env.AWS_EXECUTION_ENV ??= `AWS_Lambda_nodejs${process.versions.node.split(".")[0]}.x`;

/** The invocation that the running code serves. */
const current = new AsyncLocalStorage();
/** How to end each invocation that has not been answered. */
const open = new Set();

// -- the Runtime API --

const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE * 2 });

function splitAddress(address) {
  const colon = address.lastIndexOf(":");
  return [address.slice(0, colon), Number(address.slice(colon + 1))];
}

function ask(method, resource, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const options = { host: HOST, port: PORT, method, path: PREFIX + resource, agent, headers: { ...length, ...headers } };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() }),
      );
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function report(resource, failure) {
  const headers = { "content-type": "application/json", "lambda-runtime-function-error-type": failure.errorType };
  await ask("POST", resource, JSON.stringify(failure), headers);
}

// -- errors --

/** An error as AWS writes it into the result. */
function failureOf(error) {
  if (util.types.isNativeError(error) || error instanceof Error) {
    return {
      errorType: String(error.name || "Error"),
      errorMessage: String(error.message),
      trace: String(error.stack ?? "").split("\n"),
    };
  }
  return { errorType: typeof error, errorMessage: textOf(error), trace: [] };
}

function textOf(value) {
  try {
    return String(value);
  } catch {
    return "a value that has no text";
  }
}

// -- one invocation --

function contextOf(headers, complete) {
  const json = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    clientContext: json("lambda-runtime-client-context"),
    identity: json("lambda-runtime-cognito-identity"),
    tenantId: headers["lambda-runtime-aws-tenant-id"],
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    done: (error, result) => complete(error, result, true),
    succeed: (result) => complete(null, result, true),
    fail: (error) => complete(error ?? "handled", undefined, true),
  };
  return context;
}

/** Call the handler. Resolves with its result: of its promise, or of its callback once the event loop is empty. */
function run(handler, event, headers) {
  return new Promise((resolve, reject) => {
    const settle = (error, result) => (error === null || error === undefined ? resolve(result) : reject(error));
    let whenEmpty = () => resolve(null);
    const complete = (error, result, atOnce = false) => {
      if (atOnce || AT_ONCE > 1 || !context.callbackWaitsForEmptyEventLoop) settle(error, result);
      else whenEmpty = () => settle(error, result);
    };
    const context = contextOf(headers, complete);
    open.add({ id: context.awsRequestId, whenEmpty: () => whenEmpty() });
    const returned = handler(event, context, complete);
    if (typeof returned?.then === "function") returned.then(resolve, reject);
  });
}

async function serve(handler, invocation) {
  const { headers, body } = invocation;
  const id = headers["lambda-runtime-aws-request-id"];
  if (AT_ONCE === 1) process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"] ?? "";
  try {
    const result = await run(handler, JSON.parse(body), headers);
    const { status } = await ask("POST", `/invocation/${id}/response`, jsonOf(result));
    if (status === 413) {
      const errorMessage = "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
      await report(`/invocation/${id}/error`, { errorType: "Function.ResponseSizeTooLarge", errorMessage, trace: [] });
    }
  } catch (error) {
    const failure = failureOf(error);
    write("ERROR", ["Invoke Error", JSON.stringify(failure)]);
    await report(`/invocation/${id}/error`, failure);
  } finally {
    for (const each of open) if (each.id === id) open.delete(each);
  }
}

function jsonOf(result) {
  try {
    return JSON.stringify(result) ?? "null";
  } catch {
    throw new Error("Unable to stringify response body");
  }
}

// -- the log --

const asJson = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";

function write(level, words) {
  const timestamp = new Date().toISOString();
  const requestId = current.getStore()?.id;
  const line = asJson
    ? JSON.stringify({ timestamp, level, requestId, message: words.join("\t") })
    : [timestamp, requestId ?? "undefined", level, words.join("\t")].join("\t");
  fs.writeSync(1, line + "\n");
}

const LEVELS = { trace: "TRACE", debug: "DEBUG", log: "INFO", info: "INFO", warn: "WARN", error: "ERROR" };
for (const [method, level] of Object.entries(LEVELS)) {
  console[method] = (...words) => write(level, [util.format(...words)]);
}

// -- the process --

async function die(error) {
  write("ERROR", ["Uncaught Exception", JSON.stringify(failureOf(error))]);
  try {
    await Promise.all([...open].map(({ id }) => report(`/invocation/${id}/error`, failureOf(error))));
  } finally {
    process.exit(EXIT_CODE);
  }
}

process.on("uncaughtException", die);
process.on("unhandledRejection", (reason) =>
  die(new RuntimeFault("Runtime.UnhandledPromiseRejection", textOf(reason), reason?.stack)),
);
// A handler without a promise has done all it can when nothing is left to wait for.
process.on("beforeExit", () => open.forEach((each) => each.whenEmpty()));

async function loop(handler) {
  for (;;) {
    const invocation = await ask("GET", "/invocation/next");
    if (invocation.status !== 200) throw new Error(`the Runtime API answers ${invocation.status}`);
    const id = invocation.headers["lambda-runtime-aws-request-id"];
    await current.run({ id }, () => serve(handler, invocation));
  }
}

let handler;
// A breakpoint in the function's first line can only be set before it is loaded.
if (process.argv[3] === "--wait") inspector.waitForDebugger();
try {
  handler = await load(process.argv[2] ?? process.env._HANDLER ?? "");
} catch (error) {
  write("ERROR", ["Uncaught Exception", JSON.stringify(failureOf(error))]);
  await report("/init/error", failureOf(error));
  process.exit(EXIT_CODE);
}
for (let started = 0; started < AT_ONCE; started += 1) loop(handler).catch(die);
