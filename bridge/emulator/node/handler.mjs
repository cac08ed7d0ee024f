// Finds a function's handler by its name, such as `index.handler`, as AWS's runtime for Node.js does.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

/** A failure with the type that AWS gives it. */
export class RuntimeFault extends Error {
  constructor(name, message, stack) {
    super(message);
    this.name = name;
    if (stack) this.stack = stack;
  }
}

/** The function of this name, once its module has been imported. Throws what the module throws, or a RuntimeFault. */
export async function load(name) {
  const base = path.posix.basename(name);
  const dot = base.indexOf(".");
  if (dot < 1 || dot === base.length - 1) {
    throw new RuntimeFault("Runtime.MalformedHandlerName", `Bad handler ${name}: it is file.function`);
  }
  const root = process.env.LAMBDA_TASK_ROOT ?? process.cwd();
  const stem = path.resolve(root, path.posix.dirname(name), base.slice(0, dot));
  const module = await importFile(stem, path.posix.join(path.posix.dirname(name), base.slice(0, dot)));
  const handler = base
    .slice(dot + 1)
    .split(".")
    .reduce((found, part) => found?.[part], module);
  if (handler === undefined) {
    throw new RuntimeFault("Runtime.HandlerNotFound", `${name} is undefined or not exported`);
  }
  if (typeof handler !== "function") {
    throw new RuntimeFault("Runtime.HandlerNotFound", `${name} is not a function`);
  }
  return handler;
}

async function importFile(stem, name) {
  const file = [".js", ".mjs", ".cjs"].map((ending) => stem + ending).find((each) => fs.existsSync(each));
  if (file === undefined) {
    throw new RuntimeFault("Runtime.ImportModuleError", `Error: Cannot find module '${name}'`);
  }
  try {
    return isModule(file) ? await import(pathToFileURL(file)) : createRequire(file)(file);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new RuntimeFault("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`, error.stack);
    }
    if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
      throw new RuntimeFault("Runtime.ImportModuleError", `Error: ${error.message}`, error.stack);
    }
    throw error;
  }
}

/** Whether a file has `import` and `export`: by its ending, or by the nearest package.json. */
function isModule(file) {
  if (!file.endsWith(".js")) return file.endsWith(".mjs");
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8")).type === "module";
    } catch (error) {
      if (error.code !== "ENOENT" || folder === path.dirname(folder)) return false;
    }
  }
}
