// Shows an OpenAPI description: operations by tag, with parameters, bodies, responses and an example.

/** Returns the schema that a reference names, or the schema itself. */
function resolve(schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? report.components.schemas[name] : schema;
}

/** Returns a value that fits a schema. */
function example(schema) {
  const resolved = resolve(schema) || {};
  if (resolved.enum) return resolved.enum[0];
  if (resolved.type === "object") {
    const properties = Object.entries(resolved.properties || {}).map(([name, value]) => [name, example(value)]);
    const rest = resolved.additionalProperties ? [["left_wrist", example(resolved.additionalProperties)]] : [];
    return Object.fromEntries([...properties, ...rest]);
  }
  if (resolved.type === "array") return [example(resolved.items)];
  return { number: 0.5, integer: 0, boolean: true, string: "…" }[resolved.type] ?? null;
}

function describeSchema(schema) {
  const resolved = resolve(schema) || {};
  const limits = [resolved.minimum, resolved.maximum].map((limit) => (isMissing(limit) ? "" : String(limit)));
  const range = limits.some(Boolean) ? ` ${limits[0]}…${limits[1]}` : "";
  return (resolved.enum ? resolved.enum.join(" | ") : `${resolved.type || ""}${range}`).trim();
}

function parameterTable(parameters) {
  const rows = parameters.map(({ name, in: place, required, schema, description }) => [
    name,
    describeSchema(schema),
    isMissing(schema.default) ? (required ? "required" : "") : String(schema.default),
    description || (place === "path" ? "in the path" : ""),
  ]);
  return makeTable("Parameters", ["parameter", "values", "default", "description"], rows);
}

function curl(path, method, operation) {
  const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const key = report.security && operation.security?.length !== 0 ? ' -H "Authorization: Bearer $YOLOPOSE_API_KEY"' : "";
  if (operation.requestBody?.content["multipart/form-data"]) return `curl -s${key} -F file=@image.jpg '${base}${path}?conf=0.4'`;
  return `curl -s${method === "post" ? " -X POST" : ""}${key} '${base}${path}'`;
}

function showOperation(path, method, operation) {
  const parts = [
    html("h3", {}, html("span", { class: `method ${method}` }, method.toUpperCase()), html("code", {}, path),
      html("span", {}, operation.summary)),
    html("p", {}, operation.description),
  ];
  if (operation.parameters?.length) parts.push(parameterTable(operation.parameters));
  const bodies = Object.keys(operation.requestBody?.content || {});
  if (bodies.length) parts.push(html("p", { class: "small" }, `Body: ${bodies.join(", ")}`));
  if (!operation.responses["101"] && !bodies.includes("application/octet-stream")) parts.push(html("h4", {}, "Request"), html("pre", { tabindex: "0" }, curl(path, method, operation)));
  const success = operation.responses["200"]?.content?.["application/json"]?.schema;
  if (success?.$ref) parts.push(html("h4", {}, "Response"), html("pre", { tabindex: "0" }, JSON.stringify(example(success), null, 1)));
  const failures = Object.entries(operation.responses).filter(([status]) => Number(status) >= 400);
  if (failures.length) {
    const rows = failures.map(([status, { description }]) => [status, description]);
    parts.push(html("h4", {}, "Errors"), makeTable("Errors", ["status", "reason"], rows));
  }
  return html("div", { class: "operation" }, parts);
}

startTheme();
byId("title").textContent = `${report.info.title} ${report.info.version}`;
byId("about").textContent = report.info.description;
const operations = Object.entries(report.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
for (const tag of new Set(operations.map(({ operation }) => operation.tags[0]))) {
  const entries = operations.filter(({ operation }) => operation.tags[0] === tag);
  byId("operations").append(html("section", {}, html("h2", {}, tag),
    entries.map(({ path, method, operation }) => showOperation(path, method, operation))));
}
