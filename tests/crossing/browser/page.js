// Runs in the page: each client makes the same calls of dev.Echo and tells what it saw.
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { grpc } from "@improbable-eng/grpc-web";
import { GrpcWebClientBase, MethodDescriptor } from "grpc-web";

const METADATA = { "x-custom": "1", "echo-initial-a": "first", "echo-trailing-b": "last" };
const UNARY = { text: "héllo" };
const STREAM = { text: "s", count: 3 };
const FAIL = { code: 5, message: "gé ne", details: ["d"] };

/** What a client tells of a call: messages, metadata and status, as far as its interface shows them. */
function connect(service, transport) {
  const client = createClient(service, transport);
  return {
    async unary() {
      let initial, trailing;
      const reply = await client.unary(UNARY, {
        headers: METADATA,
        onHeader: (found) => (initial = found.get("echo-initial-a")),
        onTrailer: (found) => (trailing = found.get("echo-trailing-b")),
      });
      return [reply.text, initial, trailing];
    },
    async stream() {
      const found = [];
      for await (const reply of client.serverStream(STREAM)) found.push(reply.index);
      return found;
    },
    async fail() {
      try {
        await client.fail(FAIL);
      } catch (error) {
        return [error.code, error.rawMessage];
      }
    },
  };
}

function official(service, url, format) {
  const client = new GrpcWebClientBase({ format });
  const call = (kind, name, request) => {
    const method = service.methods.find((each) => each.name === name);
    const path = `/${service.typeName}/${name}`;
    const descriptor = new MethodDescriptor(
      path, kind, Object, Object,
      (message) => toBinary(method.input, create(method.input, message)),
      (bytes) => fromBinary(method.output, bytes),
    );
    return new Promise((resolve) => {
      const seen = { replies: [], initial: {}, trailing: {} };
      const answered = (error, reply) => {
        if (error) {
          seen.error = [error.code, error.message];
          resolve(seen);
        } else if (reply) seen.replies.push(reply);
      };
      const stream = kind === "unary"
        ? client.rpcCall(url + path, request, METADATA, descriptor, answered)
        : client.serverStreaming(url + path, request, METADATA, descriptor);
      if (kind !== "unary") stream.on("data", (reply) => seen.replies.push(reply));
      stream.on("metadata", (found) => (seen.initial = found));
      stream.on("status", (status) => (seen.trailing = status.metadata ?? {}));
      stream.on("error", answered);
      stream.on("end", () => resolve(seen));
    });
  };
  return {
    async unary() {
      const seen = await call("unary", "Unary", UNARY);
      return [seen.replies[0].text, seen.initial["echo-initial-a"], seen.trailing["echo-trailing-b"]];
    },
    async stream() {
      return (await call("server_streaming", "ServerStream", STREAM)).replies.map((each) => each.index);
    },
    async fail() {
      return (await call("unary", "Fail", FAIL)).error;
    },
  };
}

function improbable(service, url) {
  const call = (name, request) => {
    const method = service.methods.find((each) => each.name === name);
    const descriptor = {
      methodName: name,
      service: { serviceName: service.typeName },
      requestStream: false,
      responseStream: method.methodKind === "server_streaming",
      requestType: Object,
      responseType: { deserializeBinary: (bytes) => ({ ...fromBinary(method.output, bytes), toObject() {} }) },
    };
    const message = { serializeBinary: () => toBinary(method.input, create(method.input, request)), toObject() {} };
    return new Promise((resolve) => {
      const seen = { replies: [] };
      grpc.invoke(descriptor, {
        host: url,
        request: message,
        metadata: METADATA,
        onHeaders: (found) => (seen.initial = found),
        onMessage: (reply) => seen.replies.push(reply),
        onEnd: (code, text, trailing) => resolve({ ...seen, error: [code, text], trailing }),
      });
    });
  };
  return {
    async unary() {
      const seen = await call("Unary", UNARY);
      return [seen.replies[0].text, seen.initial.get("echo-initial-a")[0], seen.trailing.get("echo-trailing-b")[0]];
    },
    async stream() {
      return (await call("ServerStream", STREAM)).replies.map((each) => each.index);
    },
    async fail() {
      return (await call("Fail", FAIL)).error;
    },
  };
}

/** A client that never calls back must not hang the page. */
function givingUp() {
  return new Promise((_, reject) => setTimeout(() => reject(new Error("no answer")), 5000));
}

window.callAll = async (url, descriptors) => {
  const bytes = Uint8Array.from(atob(descriptors), (each) => each.charCodeAt(0));
  const service = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes)).getService("dev.Echo");
  const clients = {
    "connect-web, Connect in JSON": connect(service, createConnectTransport({ baseUrl: url })),
    "connect-web, Connect in protobuf": connect(service, createConnectTransport({ baseUrl: url, useBinaryFormat: true })),
    "connect-web, gRPC-Web": connect(service, createGrpcWebTransport({ baseUrl: url })),
    "grpc-web, text": official(service, url, "text"),
    "grpc-web, binary": official(service, url, "binary"),
    "@improbable-eng/grpc-web": improbable(service, url),
  };
  const seen = {};
  for (const [name, client] of Object.entries(clients)) {
    seen[name] = {};
    for (const call of ["unary", "stream", "fail"]) {
      try {
        seen[name][call] = await Promise.race([client[call](), givingUp()]);
      } catch (error) {
        seen[name][call] = String(error);
      }
    }
  }
  return seen;
};
