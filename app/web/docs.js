// Renders openapi.json as a page, and sends the calls that the user tries.  Everything is set as text, never as markup.
"use strict";

function make(tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  return element;
}

// The subset of Markdown in the descriptions: code, bold, links, paragraphs.
const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/;

function inline(text) {
  return text.split(INLINE).map((part) => {
    if (part.startsWith("`")) return make("code", part.slice(1, -1));
    if (part.startsWith("**")) return make("strong", part.slice(2, -2));
    const link = /^\[([^\]]+)\]\(([^)\s]+)\)$/.exec(part);
    return link && /^(https?:|\/|#)/.test(link[2]) ? make("a", link[1], { href: link[2] }) : part;
  });
}

function markdown(text) {
  return text.split(/\n{2,}/).map((paragraph) => {
    const made = make("p");
    made.append(...inline(paragraph.replaceAll("\n", " ")));
    return made;
  });
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
    for (const text of row) line.appendChild(make("td")).append(...inline(String(text)));
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
        details.append(make("pre", text, { tabindex: "0" })); // scrollable by keyboard
      }
    }
  }
  return block;
}

const SHOWN = 20_000; // characters of an answer

// A field with a name, for a value of a call.
function field(form, name, hint, kind = "input") {
  const label = form.appendChild(make("label", name));
  return label.appendChild(make(kind, undefined, { placeholder: hint, "data-name": name, spellcheck: "false" }));
}

// The form that tries a call, initially folded.
function trial(path, method, operation) {
  const details = make("details", undefined, { class: "trial" });
  details.append(make("summary", "Try it"));
  details.addEventListener("toggle", () => details.childElementCount === 1 && fill(details, path, method, operation));
  return details;
}

function fill(details, path, method, operation) {
  const form = details.appendChild(make("div", undefined, { class: "trial-form" }));
  const inputs = (operation.parameters || [])
    .filter((p) => p.in !== "header")
    .map((p) => ({ place: p.in, input: field(form, p.name, p.in === "path" ? "needed" : String(p.schema.default ?? "")) }));
  const bodies = Object.keys((operation.requestBody || {}).content || {});
  const json = bodies.includes("application/json") ? field(form, "body", "{}", "textarea") : null;
  const file = bodies.includes("multipart/form-data") ? field(form, "file", "") : null;
  if (file) file.type = "file";
  const button = form.appendChild(make("button", `Send ${method.toUpperCase()}`, { type: "button" }));
  const answer = details.appendChild(make("pre", "", { tabindex: "0", "aria-label": "Answer", hidden: "" }));
  button.addEventListener("click", async () => {
    let address = path;
    const query = new URLSearchParams();
    for (const { place, input } of inputs) {
      if (place === "path") address = address.replace(`{${input.dataset.name}}`, encodeURIComponent(input.value.trim()));
      else if (input.value.trim()) query.append(input.dataset.name, input.value.trim());
    }
    const key = document.getElementById("key").value.trim();
    const headers = { ...(key && { "X-API-Key": key }), ...(json && { "Content-Type": "application/json" }) };
    let body = json ? json.value || "{}" : undefined;
    if (file) {
      body = new FormData();
      for (const each of file.files) body.append("file", each, each.name);
    }
    answer.hidden = false;
    answer.textContent = "…";
    const target = new URL(address.slice(1) + (query.size ? `?${query}` : ""), document.baseURI);
    answer.textContent = await send(target, { method: method.toUpperCase(), headers, body });
  });
}

async function send(target, init) {
  try {
    const got = await fetch(target, { ...init, cache: "no-store" });
    const media = got.headers.get("content-type") || "";
    const head = `${init.method} ${target.pathname}${target.search}\n${got.status} ${got.statusText}\n${media}\n\n`;
    if (!/json|text|xml/.test(media) || media.includes("event-stream")) {
      const size = got.headers.get("content-length");
      got.body?.cancel();
      return `${head}(${size ? `${size} bytes` : "a stream"}, not shown here)`;
    }
    let text = await got.text();
    if (media.includes("json") && !media.includes("ndjson")) text = JSON.stringify(JSON.parse(text), null, 2);
    return head + (text.length > SHOWN ? `${text.slice(0, SHOWN)}\n… and ${text.length - SHOWN} characters more` : text);
  } catch (error) {
    return `The call failed: ${error.message}`;
  }
}

function call(path, method, operation) {
  const id = `${method}-${path}`;
  const section = make("section", undefined, { id });
  const title = section.appendChild(make("h2"));
  title.append(make("span", method.toUpperCase(), { class: "method" }), " ", make("code", path));
  section.append(make("p", operation.summary || ""));
  if (operation.description) section.append(...markdown(operation.description));
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
  section.append(responses(operation), trial(path, method, operation));
  const link = make("a", `${method.toUpperCase()} ${path}`, { href: `#${id}` });
  document.getElementById("contents").append(link);
  return section;
}

function schemas(all) {
  const section = make("section", undefined, { id: "schemas" });
  section.append(make("h2", "Schemas"));
  for (const [name, schema] of Object.entries(all)) {
    const details = section.appendChild(make("details"));
    details.append(make("summary", name), ...markdown(schema.description || ""));
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
  document.getElementById("key-form").onsubmit = (event) => event.preventDefault();
  document.getElementById("key").value = sessionStorage.getItem("mien.key") || "";
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
