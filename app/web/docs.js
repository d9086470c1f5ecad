// Renders openapi.json as a page.  Everything is set as text, never as markup.
"use strict";

function make(tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  return element;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return schema.format ? `${schema.type} (${schema.format})` : schema.type || "";
}

function table(heads, rows) {
  const made = make("table");
  const head = made.appendChild(make("tr"));
  for (const text of heads) head.append(make("th", text));
  for (const row of rows) {
    const line = made.appendChild(make("tr"));
    for (const text of row) line.append(make("td", text));
  }
  return made;
}

function exampleOf(content) {
  if (content.example !== undefined) return content.example;
  const several = Object.values(content.examples || {});
  return several.length ? several[0].value : undefined;
}

function responses(operation) {
  const block = make("div");
  for (const [status, response] of Object.entries(operation.responses)) {
    const details = block.appendChild(make("details"));
    details.append(make("summary", `${status} ${response.description || ""}`));
    for (const [media, content] of Object.entries(response.content || {})) {
      details.append(make("p", `${media} ${typeOf(content.schema)}`));
      const example = exampleOf(content);
      if (example !== undefined) {
        const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
        details.append(make("pre", text, { tabindex: "0" })); // so that the keyboard scrolls it, too
      }
    }
  }
  return block;
}

function call(path, method, operation) {
  const id = `${method}-${path}`;
  const section = make("section", undefined, { id });
  const title = section.appendChild(make("h2"));
  title.append(make("span", method.toUpperCase(), { class: "method" }), " ", make("code", path));
  section.append(make("p", operation.summary || ""));
  if (operation.description) section.append(make("p", operation.description));
  const parameters = operation.parameters || [];
  if (parameters.length) {
    section.append(
      table(
        ["parameter", "in", "type", "default", "meaning"],
        parameters.map((p) => [
          p.name, p.in, typeOf(p.schema), JSON.stringify(p.schema.default) ?? "", p.description || p.schema.description || "",
        ]),
      ),
    );
  }
  for (const media of Object.keys((operation.requestBody || {}).content || {})) section.append(make("p", `Body: ${media}`));
  section.append(responses(operation));
  const link = make("a", `${method.toUpperCase()} ${path}`, { href: `#${id}` });
  document.getElementById("contents").append(link);
  return section;
}

function schemas(all) {
  const section = make("section", undefined, { id: "schemas" });
  section.append(make("h2", "Schemas"));
  for (const [name, schema] of Object.entries(all)) {
    const details = section.appendChild(make("details"));
    details.append(make("summary", name), make("p", schema.description || ""));
    details.append(
      table(
        ["field", "type", "meaning"],
        Object.entries(schema.properties || {}).map(([field, s]) => [field, typeOf(s), s.description || ""]),
      ),
    );
  }
  return section;
}

async function show() {
  const about = document.getElementById("about");
  const answer = await fetch("openapi.json");
  if (!answer.ok) {
    about.textContent = `openapi.json could not be read: ${answer.status}`;
    return;
  }
  const api = await answer.json();
  about.textContent = `${api.info.summary || ""} Version ${api.info.version}, OpenAPI ${api.openapi}.`;
  const calls = document.getElementById("calls");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) calls.append(call(path, method, operation));
  }
  calls.append(schemas(api.components.schemas));
}

show();
