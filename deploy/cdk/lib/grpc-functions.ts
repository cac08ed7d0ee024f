/** gRPC functions on Lambda, with what grpc-lambda-bridge needs to call them: the CDK's twin of ../terraform. */

import { Duration, RemovalPolicy } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import { SnsAction } from "aws-cdk-lib/aws-cloudwatch-actions";
import * as ec2 from "aws-cdk-lib/aws-ec2";
import * as iam from "aws-cdk-lib/aws-iam";
import * as lambda from "aws-cdk-lib/aws-lambda";
import * as logs from "aws-cdk-lib/aws-logs";
import type * as sns from "aws-cdk-lib/aws-sns";
import { Construct } from "constructs";

/** One function. */
export interface GrpcFunctionProps {
  /** The zip that `grpc-lambda-bridge package` makes: `Code.fromAsset(path)` or `Code.fromBucketV2(…)`. */
  readonly code: lambda.Code;
  /** @default "app.handler" */
  readonly handler?: string;
  /** In MB. @default 512 */
  readonly memorySize?: number;
  /** @default 30 seconds */
  readonly timeout?: Duration;
  /** Environment variables beside those of GrpcFunctionsProps. */
  readonly environment?: Record<string, string>;
  /** @default no limit */
  readonly reservedConcurrency?: number;
  /** Makes a function URL. It excludes tenants. @default none */
  readonly url?: GrpcFunctionUrl;
  /** Isolates tenants. Lambda takes this only when it creates the function. @default false */
  readonly tenants?: boolean;
  /** False where invocations last long on purpose, as in full duplex. @default true */
  readonly durationAlarm?: boolean;
  /** Runs the function on Lambda Managed Instances, in their VPC and not in `network`. @default none */
  readonly capacityProvider?: { readonly arn: string; readonly maxConcurrency?: number };
}

export interface GrpcFunctionUrl {
  /** NONE opens the URL to the internet. @default AWS_IAM */
  readonly auth?: lambda.FunctionUrlAuthType;
  /** RESPONSE_STREAM reads streamed replies only, and BUFFERED whole ones only. @default RESPONSE_STREAM */
  readonly invokeMode?: lambda.InvokeMode;
}

export interface GrpcFunctionsProps {
  /** Begins the names of everything that the construct makes. */
  readonly prefix: string;
  /** The functions, by the last part of their names. */
  readonly functions: Record<string, GrpcFunctionProps>;
  /** @default Python 3.13 */
  readonly runtime?: lambda.Runtime;
  /** The architecture that the zips were made for. @default arm64 */
  readonly architecture?: lambda.Architecture;
  /** Runs lambda_fn.runtime in place of a managed Python runtime. Null: not so. @default the wrapper in the zip */
  readonly execWrapper?: string | null;
  /** Follows the version that was deployed last. @default "live" */
  readonly alias?: string;
  /** Where the functions run, which full duplex needs. @default no VPC */
  readonly network?: GrpcNetwork;
  /** Whether the bridge's targets are ARNs (invoke) or URLs with AWS_IAM (url). @default "invoke" */
  readonly bridgeCalls?: "invoke" | "url";
  /** Where a role for the bridge shall serve. @default a policy only, for another role */
  readonly bridgeRunsOn?: BridgePlace;
  /** @default one month */
  readonly logRetention?: logs.RetentionDays;
  /** Which topic alarms notify. @default none */
  readonly alarmTopic?: sns.ITopic;
  readonly alarmThresholds?: AlarmThresholds;
}

export interface GrpcNetwork {
  readonly subnetIds: string[];
  readonly securityGroupId: string;
  /** With it, a rule lets the functions connect to the ports of the bridge's duplex listener. */
  readonly bridgeSecurityGroupId?: string;
  /** @default 50052 */
  readonly duplexFromPort?: number;
  /** @default 50055 */
  readonly duplexToPort?: number;
}

export type BridgePlace = "ec2" | "ecs" | "pod-identity";

/** When alarms begin. The bridge sends throttled calls again. */
export interface AlarmThresholds {
  /** @default 1 */
  readonly errorsPerMinute?: number;
  /** @default 10 */
  readonly throttlesPerMinute?: number;
  /** Part of its timeout that an invocation takes. @default 90 */
  readonly timeoutPercent?: number;
}

/** Where the bridge may run, and what its role then trusts. */
const TRUSTED: Record<BridgePlace, { service: string; actions: string[] }> = {
  ec2: { service: "ec2.amazonaws.com", actions: ["sts:AssumeRole"] },
  ecs: { service: "ecs-tasks.amazonaws.com", actions: ["sts:AssumeRole"] },
  "pod-identity": { service: "pods.eks.amazonaws.com", actions: ["sts:AssumeRole", "sts:TagSession"] },
};

export class GrpcFunctions extends Construct {
  /** Targets for the bridge's configuration, by the name of the function. */
  readonly aliases: Record<string, lambda.Alias> = {};
  /** By the name of the function. */
  readonly urls: Record<string, lambda.FunctionUrl> = {};
  /** To attach to the bridge's role. */
  readonly bridgePolicy: iam.ManagedPolicy;
  /** With `bridgeRunsOn` only. */
  readonly bridgeRole?: iam.Role;

  constructor(scope: Construct, id: string, private readonly props: GrpcFunctionsProps) {
    super(scope, id);
    for (const [name, one] of Object.entries(props.functions)) {
      this.addFunction(name, one);
    }
    this.bridgePolicy = new iam.ManagedPolicy(this, "BridgePolicy", {
      description: "Lets grpc-lambda-bridge call the functions",
      statements: this.bridgeStatements(),
    });
    if (props.bridgeRunsOn) {
      this.bridgeRole = this.addBridgeRole(props.bridgeRunsOn);
    }
    if (props.network?.bridgeSecurityGroupId) {
      this.letFunctionsConnect(props.network, props.network.bridgeSecurityGroupId);
    }
  }

  private addFunction(name: string, one: GrpcFunctionProps): void {
    if (one.tenants && one.url) {
      throw new Error(`${name}: a function that isolates tenants cannot have a URL`);
    }
    const scope = new Construct(this, name);
    const functionName = `${this.props.prefix}-${name}`;
    const timeout = one.timeout ?? Duration.seconds(30);
    const logGroup = new logs.LogGroup(scope, "Logs", {
      logGroupName: `/aws/lambda/${functionName}`,
      retention: this.props.logRetention ?? logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    const fn = new lambda.Function(scope, "Function", {
      functionName,
      role: this.executionRole(scope, logGroup, this.networkOf(one) !== undefined),
      code: one.code,
      handler: one.handler ?? "app.handler",
      runtime: this.runtime,
      architecture: this.props.architecture ?? lambda.Architecture.ARM_64,
      memorySize: one.memorySize ?? 512,
      timeout,
      environment: { ...this.wrapper(), ...one.environment },
      reservedConcurrentExecutions: one.reservedConcurrency,
      tenancyConfig: one.tenants ? lambda.TenancyConfig.PER_TENANT : undefined,
    });
    this.place(fn.node.defaultChild as lambda.CfnFunction, one);
    const alias = new lambda.Alias(scope, "Alias", {
      aliasName: this.props.alias ?? "live",
      version: fn.currentVersion,
    });
    this.aliases[name] = alias;
    if (one.url) {
      this.urls[name] = alias.addFunctionUrl({
        authType: one.url.auth ?? lambda.FunctionUrlAuthType.AWS_IAM,
        invokeMode: one.url.invokeMode ?? lambda.InvokeMode.RESPONSE_STREAM,
      });
    }
    this.addAlarms(scope, `${functionName}:${alias.aliasName}`, timeout, one.durationAlarm ?? true);
  }

  private get runtime(): lambda.Runtime {
    return this.props.runtime ?? lambda.Runtime.PYTHON_3_13;
  }

  /** Functions in other languages have no such program. */
  private wrapper(): Record<string, string> {
    const wrapper = this.props.execWrapper === undefined ? "/var/task/lambda_fn_wrapper" : this.props.execWrapper;
    return wrapper === null || !this.runtime.name.startsWith("python") ? {} : { AWS_LAMBDA_EXEC_WRAPPER: wrapper };
  }

  /** Puts a function into the VPC and on Managed Instances. For a VPC the CDK's own way needs more than ids. */
  private place(fn: lambda.CfnFunction, one: GrpcFunctionProps): void {
    const network = this.networkOf(one);
    if (network) {
      fn.vpcConfig = { subnetIds: network.subnetIds, securityGroupIds: [network.securityGroupId] };
    }
    if (one.capacityProvider) {
      fn.capacityProviderConfig = {
        lambdaManagedInstancesCapacityProviderConfig: {
          capacityProviderArn: one.capacityProvider.arn,
          perExecutionEnvironmentMaxConcurrency: one.capacityProvider.maxConcurrency,
        },
      };
    }
  }

  /** Lambda takes either a VPC or a capacity provider, which has its own. */
  private networkOf(one: GrpcFunctionProps): GrpcNetwork | undefined {
    return one.capacityProvider ? undefined : this.props.network;
  }

  private executionRole(scope: Construct, logGroup: logs.LogGroup, isInVpc: boolean): iam.Role {
    const role = new iam.Role(scope, "Role", {
      assumedBy: new iam.ServicePrincipal("lambda.amazonaws.com"),
      inlinePolicies: {
        logs: new iam.PolicyDocument({
          statements: [
            new iam.PolicyStatement({
              actions: ["logs:CreateLogStream", "logs:PutLogEvents"],
              resources: [logGroup.logGroupArn],
            }),
          ],
        }),
      },
    });
    if (isInVpc) {
      // Lambda makes the network interfaces of a function in a VPC as the function's role.
      const policy = "service-role/AWSLambdaENIManagementAccess";
      role.addManagedPolicy(iam.ManagedPolicy.fromAwsManagedPolicyName(policy));
    }
    return role;
  }

  /** Lambda counts what is called through an alias under Resource = NAME:ALIAS. */
  private addAlarms(scope: Construct, resource: string, timeout: Duration, durationAlarm: boolean): void {
    const thresholds = this.props.alarmThresholds ?? {};
    const metric = (metricName: string, statistic: string): cloudwatch.Metric =>
      new cloudwatch.Metric({
        namespace: "AWS/Lambda",
        metricName,
        dimensionsMap: { FunctionName: resource.slice(0, resource.lastIndexOf(":")), Resource: resource },
        statistic,
        period: Duration.minutes(1),
      });
    const add = (id: string, metric: cloudwatch.IMetric, threshold: number, alarmDescription: string): void => {
      const alarm = new cloudwatch.Alarm(scope, id, {
        alarmDescription,
        metric,
        threshold,
        evaluationPeriods: 5,
        datapointsToAlarm: 3,
        comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treatMissingData: cloudwatch.TreatMissingData.NOT_BREACHING,
      });
      if (this.props.alarmTopic) {
        alarm.addAlarmAction(new SnsAction(this.props.alarmTopic));
        alarm.addOkAction(new SnsAction(this.props.alarmTopic));
      }
    };
    const { errorsPerMinute = 1, throttlesPerMinute = 10, timeoutPercent = 90 } = thresholds;
    add("Errors", metric("Errors", "Sum"), errorsPerMinute, `Invocations of ${resource} fail`);
    add("Throttles", metric("Throttles", "Sum"), throttlesPerMinute, `Lambda throttles ${resource}`);
    if (durationAlarm) {
      const percent = new cloudwatch.MathExpression({
        label: "Part of the timeout in percent",
        // Milliseconds of a timeout in seconds: 100 * d / (1000 * timeout).
        expression: `duration / (10 * ${timeout.toSeconds()})`,
        usingMetrics: { duration: metric("Duration", "Maximum") },
        period: Duration.minutes(1),
      });
      add("NearTimeout", percent, timeoutPercent, `Invocations of ${resource} come near the timeout`);
    }
  }

  /** The statements that `grpc-lambda-bridge iam` prints for these targets. */
  private bridgeStatements(): iam.PolicyStatement[] {
    if (this.props.bridgeCalls !== "url") {
      const resources = Object.values(this.aliases).map((alias) => alias.functionArn);
      return [new iam.PolicyStatement({ sid: "InvokeFunctions", actions: ["lambda:InvokeFunction"], resources })];
    }
    const resources = Object.entries(this.aliases)
      .filter(([name]) => this.urls[name]?.authType === lambda.FunctionUrlAuthType.AWS_IAM)
      .map(([, alias]) => alias.functionArn);
    if (resources.length === 0) {
      throw new Error("bridgeCalls is url, and no function has a URL with AWS_IAM");
    }
    // URLs need two actions since October 2025: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
    return [
      new iam.PolicyStatement({
        sid: "InvokeFunctionUrls",
        actions: ["lambda:InvokeFunctionUrl"],
        resources,
        conditions: { StringEquals: { "lambda:FunctionUrlAuthType": "AWS_IAM" } },
      }),
      new iam.PolicyStatement({
        sid: "InvokeFunctionsByUrl",
        actions: ["lambda:InvokeFunction"],
        resources,
        conditions: { Bool: { "lambda:InvokedViaFunctionUrl": "true" } },
      }),
    ];
  }

  private addBridgeRole(place: BridgePlace): iam.Role {
    const trusted = TRUSTED[place];
    const role = new iam.Role(this, "BridgeRole", {
      assumedBy: new iam.ServicePrincipal(trusted.service),
      managedPolicies: [this.bridgePolicy],
    });
    const more = trusted.actions.slice(1);
    if (more.length > 0) {
      role.assumeRolePolicy?.addStatements(
        new iam.PolicyStatement({ principals: [new iam.ServicePrincipal(trusted.service)], actions: more }),
      );
    }
    return role;
  }

  private letFunctionsConnect(network: GrpcNetwork, groupId: string): void {
    new ec2.CfnSecurityGroupIngress(this, "BridgeFromFunctions", {
      description: "Functions connect to grpc-lambda-bridge for full duplex",
      groupId,
      sourceSecurityGroupId: network.securityGroupId,
      ipProtocol: "tcp",
      fromPort: network.duplexFromPort ?? 50052,
      toPort: network.duplexToPort ?? 50055,
    });
  }
}
