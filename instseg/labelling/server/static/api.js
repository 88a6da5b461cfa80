// The server's interface: JSON and tiles, with this page's name in each request.

/** This page's name, the same after a reload: the folder stays its own. */
export const PAGE = sessionStorage.getItem("instseg-page") ?? randomName();
sessionStorage.setItem("instseg-page", PAGE);

export function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The server has answered, but not with what was asked for. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** No answer at all: the server has ended, or the line to it is cut. */
export class Unreachable extends Error {}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { "X-Page": PAGE, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The server does not answer.");
  }
  if (response.ok) return response;
  let message = `The server answers with ${response.status}.`;
  try {
    message = (await response.json()).error || message;
  } catch {
    // An answer that is no JSON has no better message.
  }
  throw new Refused(response.status, message);
}

export async function getJson(path) {
  return (await request(path)).json();
}

export async function postJson(path, body, headers = {}) {
  const options = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
  return (await request(path, options)).json();
}

/** A tile of the image as a bitmap. */
export async function getPixels(path, signal) {
  const response = await request(path, { signal });
  return createImageBitmap(await response.blob());
}

/** A tile of labels: `data` is row-major, 0 is background, -1 background that nobody has spoken of. */
export async function getLabels(path, signal) {
  const response = await request(path, { signal });
  const height = Number(response.headers.get("X-Height"));
  const width = Number(response.headers.get("X-Width"));
  const data = new Int32Array(await response.arrayBuffer());
  if (data.length !== height * width) throw new Refused(500, "A tile of labels is not complete.");
  return { data, height, width };
}
