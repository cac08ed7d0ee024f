/** The functions of ../sam/template.yaml: `greeter` with a URL, and `echo` for streams in both directions. */

import * as path from "node:path";
import { App, CfnOutput, Duration, Stack } from "aws-cdk-lib";
import { Code } from "aws-cdk-lib/aws-lambda";
import { type GrpcNetwork, GrpcFunctions } from "../lib/grpc-functions";

const app = new App();
const stack = new Stack(app, "grpc", { description: "gRPC services on Lambda, for grpc-lambda-bridge" });
const dist = path.join(__dirname, "../../../../dist");
const given: unknown = app.node.tryGetContext("network"); // an object in cdk.json, or its JSON after -c network=
const network = (typeof given === "string" ? JSON.parse(given) : given) as GrpcNetwork | undefined;

const services = new GrpcFunctions(stack, "Services", {
  prefix: stack.stackName,
  bridgeRunsOn: "ecs",
  ...(network && { network }),
  functions: {
    greeter: { code: Code.fromAsset(path.join(dist, "greeter.zip")), url: {} },
    echo: {
      code: Code.fromAsset(path.join(dist, "echo.zip")),
      timeout: Duration.minutes(15),
      durationAlarm: false,
    },
  },
});

for (const [name, alias] of Object.entries(services.aliases)) {
  new CfnOutput(stack, `${name}Arn`, { value: alias.functionArn, description: "Target in the bridge's configuration" });
}
for (const [name, url] of Object.entries(services.urls)) {
  new CfnOutput(stack, `${name}Url`, { value: url.url, description: "Where gRPC-Web, Connect and REST clients call" });
}
new CfnOutput(stack, "BridgeRoleArn", { value: services.bridgeRole?.roleArn ?? "", description: "The bridge's role" });
