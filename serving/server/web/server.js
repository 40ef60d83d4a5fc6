// The REST API of the server that sent this page, and its refusals as sentences.

import { forTheModel } from "./encoding.js";

const GONE = "The server cannot be reached. Check that it is still running, then try again.";
const SIGNATURE = "serving_default";
// The server takes 64 MiB (BODY_LIMIT), in which base64 makes four bytes of three.
const MOST_BYTES = ((64 << 20) * 3) / 4 - 1024;

/** An error whose message is written for the person at the page. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The server cannot be reached. */
export class Gone extends Refused {}

async function ask(path, options = {}) {
  let answer, text;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone(GONE);
  }
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Refused(`The server answered with status ${answer.status} and no JSON.`, answer.status);
  }
  if (!answer.ok) throw new Refused(sentence(content.error, answer.status), answer.status);
  return { content, version: answer.headers.get("Model-Version") };
}

/** The first line of an error: the lines after it describe TensorFlow's graph. */
function sentence(error, status) {
  const line = String(error ?? "").split("\n")[0].trim();
  return line.charAt(0).toUpperCase() + line.slice(1) || `The server refused the request with status ${status}.`;
}

const post = (path, body, signal) =>
  ask(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

/** Class names are text, or {"b64": …} where they are not UTF-8. */
const named = (value) => (typeof value === "object" && value !== null ? atob(value.b64 ?? "") : String(value));

/** The served model: its newest available version, and why others failed. */
export async function servedModel() {
  const [model] = (await ask("v1/server/models")).content.models;
  const states = model.model_version_status;
  return {
    name: model.name,
    version: states.find(({ state }) => state === "AVAILABLE")?.version,
    failures: states.map(({ status }) => status.error_message).filter(Boolean),
  };
}

const at = (target, action) =>
  `v1/models/${encodeURIComponent(target.model)}/versions/${target.version}${action}`;

const about = ({ model, version }) => `web/knowledge?${new URLSearchParams({ model, version })}`;

/** What a version has learned: its first classes, their number, its accuracy, and whether it tells of unlike images. */
export async function knowledge(target) {
  const { classes, count, figures, tells_unlike, corrects } = (await ask(about(target))).content;
  return { classes, count, figures, tellsUnlike: tells_unlike, corrects };
}

/** Put an image into the folder of corrections of a class; "" takes it out. */
export async function correct(target, label, image) {
  const body = { method: "POST", body: image, headers: { "Content-Type": "application/octet-stream" } };
  await ask(`${about(target)}&${new URLSearchParams({ label })}`, body);
}

/** What is asked of a version: its input for encoded images, and whether it has Grad-CAM. */
export async function describe(target) {
  const { content } = await ask(at(target, "/metadata"));
  const signatures = content.metadata.signature_def.signature_def;
  const inputs = Object.entries(signatures[SIGNATURE]?.inputs ?? {});
  const outputs = signatures[SIGNATURE]?.outputs ?? {};
  if (inputs.length !== 1 || inputs[0][1].dtype !== "DT_STRING" || !outputs.probabilities || !outputs.classes) {
    throw new Refused(
      `Version ${target.version} of ${target.model} is not an image classifier that this page can query: ` +
        "its default signature must take encoded images and return classes and probabilities.",
    );
  }
  return { input: inputs[0][0], hasCam: Boolean(signatures.cam?.outputs?.cam) };
}

/** The content of a file in base64. */
function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refused(`${blob.name || "The image"} cannot be read: ${reader.error.message}`));
    reader.readAsDataURL(blob);
  });
}

function tooLarge(name, size) {
  const [large, most] = [size, MOST_BYTES].map((bytes) => (bytes / 1e6).toFixed(1));
  return (
    `${name} has ${large} MB, and this page takes images of up to ${most} MB. ` +
    "Save it as JPEG, or smaller, and choose it again."
  );
}

async function predict(target, blob, signature, signal) {
  const name = blob.name || "The image";
  if (!blob.size) throw new Refused(`${name} is empty.`);
  if (blob.size > MOST_BYTES) throw new Refused(tooLarge(name, blob.size));
  const row = { [target.input]: { b64: await base64(blob) } };
  const { content, version } = await post(
    at(target, ":predict"), { signature_name: signature, instances: [row] }, signal,
  );
  return { row: content.predictions[0], version };
}

/** The probabilities of all classes, highest first, and whether an image is unlike all of them. */
export async function classify(target, file, signal) {
  const blob = await forTheModel(file);
  const { row, version } = await predict(target, blob, SIGNATURE, signal);
  const classes = row.classes
    .map((name, index) => ({ name: named(name), probability: row.probabilities[index] }))
    .sort((a, b) => b.probability - a.probability);
  return { version, classes, unlike: Boolean(row.unlike) };
}

/** How much each cell of a grid speaks for the top class: rows of numbers from 0 to 1. */
export async function explain(target, file, signal) {
  const { row } = await predict(target, await forTheModel(file), "cam", signal);
  return row.cam ?? row; // the only output of a signature has no name in the answer
}
