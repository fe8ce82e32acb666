/**
 * Watchword in the browser: `fetch` for calls that may need a person's approval.
 *
 *     import { stepUpFetch } from "https://sca.example/watchword.js";
 *     const fetch = stepUpFetch();
 *     const response = await fetch("/payments/7", { method: "POST", body });
 *
 * A call that is refused with 403 (or 400) and a header `x-2fa-approval` opens the approval page.
 * Once the person has approved there, the very same call is sent once more, with that header.
 *
 * The answer of the page only says when to try again: the server alone decides whether it was approved.
 * The one-time token travels in the body of a form, never in a URL, and is never logged.
 *
 * Your page's Content-Security-Policy must let this through: `script-src` for this file, `frame-src`
 * for the dialog, `form-action` for all flows. With `Cross-Origin-Opener-Policy` use the dialog, or
 * `same-origin-allow-popups`. No inline style or script is needed, and nothing is loaded from elsewhere.
 */

/** @typedef {import("./watchword.d.ts").ApprovalOptions} ApprovalOptions */
/** @typedef {import("./watchword.d.ts").StepUpOptions} StepUpOptions */
/** @typedef {import("./watchword.d.ts").Reason} Reason */
/** @typedef {{ target: Window, isGone: () => boolean, isSilent?: () => boolean, resize?: (height: number) => void, close: () => void }} Opened */

const VERSION = "1";
const HEADER = "x-2fa-approval";
const OUTCOME = "tw-approve-api-action-";
const RESIZER = "[iFrameSizer]";
const LOOK_MS = 200;
/** How long a frame that has loaded may take to say how high it is; our page does so at once. */
const SILENT_MS = 5000;

/** @type {Record<Reason, string>} */
const MESSAGES = {
  closed: "The approval page was closed before it was done",
  failed: "The action was not approved",
  blocked: "The browser did not show the approval page",
  aborted: "The approval was called off",
};

/** @type {Record<string, [title: string, closeLabel: string]>} */
const LABELS = {
  ar: ["الموافقة", "إغلاق"],
  de: ["Freigabe", "Schließen"],
  en: ["Approval", "Close"],
  es: ["Aprobación", "Cerrar"],
  fr: ["Approbation", "Fermer"],
};

/** The person did not approve, or could not; `reason` tells which. */
export class ApprovalError extends Error {
  /**
   * @param {Reason} reason
   * @param {ErrorOptions} [options]
   */
  constructor(reason, options) {
    super(MESSAGES[reason], options);
    this.name = "ApprovalError";
    this.reason = reason;
  }
}

/**
 * Make a `fetch` that has protected calls approved, and otherwise is as the browser's own.
 *
 * The call is repeated exactly once. Whatever that brings is the result, a second 403 too. A body
 * must be of a kind that can be sent twice: a string, a Blob, FormData; a stream is refused. A call that
 * was redirected is never repeated, since the first of its steps ran; its refusal is the result.
 *
 * @param {StepUpOptions} [options]
 * @returns {typeof fetch} Rejects as `fetch` does, and with `ApprovalError` where it was not approved.
 */
export function stepUpFetch(options = {}) {
  return async (input, init) => {
    if (init?.body instanceof ReadableStream) {
      throw new TypeError("A stream cannot be sent twice: pass a string, a Blob or FormData");
    }
    const first = new Request(input, init);
    const second = first.clone();
    const response = await fetch(first);
    const ott = response.headers.get(HEADER);
    if (!ott || (response.status !== 403 && response.status !== 400)) return response;
    // What ran before the redirect would run twice; a call without CORS cannot carry the header.
    if (response.redirected || first.mode === "no-cors") return response;
    response.body?.cancel().catch(() => undefined);
    const signal = options.signal ? AbortSignal.any([options.signal, second.signal]) : second.signal;
    await approve(ott, { ...options, signal });
    second.headers.set(HEADER, ott);
    return fetch(second);
  };
}

/** Resolves once nobody is being asked. @type {Promise<unknown>} */
let turn = Promise.resolve();

/**
 * Ask the person to approve, and resolve once it is done.
 *
 * Approvals take turns: while one is open, the next waits, so nobody sees two dialogs at once. In
 * the flows `popup` and `tab` only a call that follows a click closely may open a window; one that
 * waited may be rejected as `blocked`.
 *
 * @param {string} ott The one-time token: the value of `x-2fa-approval`.
 * @param {ApprovalOptions} [options]
 * @returns {Promise<void>} Settles in every case; rejects with `ApprovalError` unless it was approved.
 */
export async function approve(ott, options = {}) {
  const before = turn;
  const asking = (async () => {
    await unlessAborted(before, options.signal);
    options.onStart?.();
    await ask(ott, options);
  })();
  turn = Promise.allSettled([before, asking]);
  try {
    await asking;
  } catch (error) {
    options.onEnd?.(/** @type {Error} */ (error));
    throw error;
  }
  options.onEnd?.();
}

/**
 * @param {string} ott
 * @param {ApprovalOptions} options
 */
async function ask(ott, options) {
  const page = new URL(options.page ?? new URL("/approve-api-action/", import.meta.url), location.href);
  if (options.lang) page.searchParams.set("lang", options.lang);
  const flow = options.flow ?? "dialog";
  // Nobody else can have a window or a frame of that name, and get the form.
  const name = `watchword-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const opened = flow === "dialog" ? openDialog(name, page.origin, options) : openWindow(name, flow);
  try {
    const outcome = hear(opened, name, page.origin);
    send(page, name, {
      ott,
      libVersion: VERSION,
      parentHostname: location.hostname,
      flow: flow === "dialog" ? "iframe" : flow,
    });
    await unlessAborted(outcome, options.signal);
  } finally {
    opened.close();
  }
}

/**
 * Post a form into the window or frame of that name: a token in a URL would stay in history and logs.
 *
 * @param {URL} page
 * @param {string} target
 * @param {Record<string, string>} fields
 */
function send(page, target, fields) {
  const form = document.createElement("form");
  Object.assign(form, { method: "POST", action: page.href, target, hidden: true });
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  place().append(form);
  form.submit();
  form.remove();
}

/**
 * Wait for what the page says, or until it is gone. Anybody may post messages to this window: only
 * those of that very window, while it shows that very origin, count.
 *
 * @param {Opened} opened
 * @param {string} name
 * @param {string} origin
 * @returns {Promise<void>}
 */
function hear(opened, name, origin) {
  return new Promise((resolve, reject) => {
    const listening = new AbortController();
    let missed = 0;
    /** @param {Reason} [reason] */
    const end = (reason) => {
      clearInterval(looking);
      listening.abort();
      if (reason) reject(new ApprovalError(reason));
      else resolve();
    };
    const looking = setInterval(() => {
      // At the second look: what it said last may still be on its way at the first.
      if (opened.isGone() && ++missed > 1) end("closed");
      else if (opened.isSilent?.()) {
        console.error(
          `Watchword: ${origin} does not show the approval page in a frame of ${location.origin}. ` +
            "Is that origin in the server's page.openers, and does this page's frame-src allow it?",
        );
        end("blocked");
      }
    }, LOOK_MS);
    const onMessage = (/** @type {MessageEvent} */ { source, origin: from, data }) => {
      if (source !== opened.target || from !== origin || typeof data !== "string") return;
      if (data === `${OUTCOME}success`) end();
      else if (data === `${OUTCOME}failed`) end("failed");
      else if (data === `${OUTCOME}closed`) end("closed");
      else if (data.startsWith(`${RESIZER}${name}:`)) opened.resize?.(parseInt(data.split(":")[1] ?? "", 10));
    };
    addEventListener("message", onMessage, { signal: listening.signal });
  });
}

/**
 * @param {string} name
 * @param {"popup" | "tab"} flow
 * @returns {Opened}
 */
function openWindow(name, flow) {
  const width = Math.min(480, screen.availWidth);
  const height = Math.min(720, screen.availHeight);
  const left = Math.round(screenX + (outerWidth - width) / 2);
  const top = Math.round(screenY + (outerHeight - height) / 2);
  const features = flow === "popup" ? `popup,width=${width},height=${height},left=${left},top=${top}` : "";
  const target = open("", name, features);
  if (!target || target.closed) throw new ApprovalError("blocked");
  return { target, isGone: () => target.closed, close: () => target.close() };
}

/**
 * A modal dialog with the page in a frame. Its button and Esc close it; a click beside it does not, so that
 * none that strays loses a payment. It lives in a shadow root, with a constructed style sheet:
 * neither your page's CSS nor its Content-Security-Policy touches how it looks.
 *
 * @param {string} name
 * @param {string} origin
 * @param {ApprovalOptions} options
 * @returns {Opened}
 */
function openDialog(name, origin, options) {
  const lang = labelled(options.lang ? [options.lang] : navigator.languages);
  const [title, closeLabel] = /** @type {[string, string]} */ (LABELS[lang]);

  const host = document.createElement("div");
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [style()];
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "title");
  Object.assign(dialog, { lang, dir: lang === "ar" ? "rtl" : "ltr" });
  const bar = document.createElement("div");
  const heading = Object.assign(document.createElement("h2"), { id: "title", textContent: options.title ?? title });
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "✕" });
  button.setAttribute("aria-label", options.closeLabel ?? closeLabel);
  bar.append(heading, button);
  dialog.append(bar, document.createElement("slot"));
  root.append(dialog);

  // The frame itself stays outside of the shadow root, where every browser finds it by its name.
  const frame = Object.assign(document.createElement("iframe"), { name, id: name, title: heading.textContent });
  host.append(frame);
  place().append(host);
  dialog.showModal();
  const target = /** @type {Window} */ (frame.contentWindow);

  let silentSince = Infinity;
  frame.addEventListener("load", () => {
    try {
      if (target.location.href === "about:blank") return; // Before the form, in some browsers.
    } catch {} // Another origin, as usual.
    silentSince = Math.min(silentSince, performance.now());
    if (root.activeElement === button) frame.focus();
    // The beginning of what iframe-resizer's host (version 4) says: from now on the page tells its height.
    target.postMessage(`${RESIZER}${name}:0:false:false:32:true:true:null:bodyOffset`, origin);
  });
  button.addEventListener("click", () => dialog.close());

  return {
    target,
    isGone: () => !dialog.open || !host.isConnected,
    isSilent: () => performance.now() - silentSince > SILENT_MS,
    resize: (height) => {
      silentSince = NaN; // It has spoken.
      dialog.style.setProperty("--height", `${Math.min(Math.max(height, 160), 4000)}px`);
    },
    close: () => {
      dialog.close(); // Gives the focus back to where it was.
      host.remove();
    },
  };
}

/** @returns {CSSStyleSheet} */
function style() {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
:host { all: initial !important; }
dialog {
  box-sizing: border-box; width: min(30em, 100vw - 2em); max-width: none; max-height: calc(100dvh - 2em);
  padding: 0; overflow: hidden; border: 1px solid transparent; border-radius: 12px;
  color-scheme: light dark; background: light-dark(#fff, #161c25); color: light-dark(#141a24, #eef2f7);
  font: medium/1.4 system-ui, sans-serif; box-shadow: 0 1em 3em rgb(0 0 0 / 0.35);
}
dialog[open] { display: flex; flex-direction: column; }
dialog::backdrop { background: rgb(0 0 0 / 0.55); }
div {
  display: flex; flex: none; align-items: center; justify-content: space-between; padding-inline: 1em 0.25em;
  border-block-end: 1px solid light-dark(#d5dbe4, #303a48);
}
h2 { margin: 0; font-size: 1em; font-weight: 600; }
button {
  width: 44px; height: 44px; padding: 0; border: 0; border-radius: 8px; background: none; color: inherit;
  font: inherit; cursor: pointer;
}
button:hover { background: light-dark(#eef1f5, #1e2631); }
button:focus-visible { outline: 2px solid light-dark(#0550ae, #79b8ff); outline-offset: -4px; }
::slotted(iframe) {
  all: initial !important; display: block !important; box-sizing: border-box !important; flex: 0 1 auto !important;
  width: 100% !important; height: var(--height, 30em) !important; min-height: 0 !important;
  color-scheme: light dark !important;
}
@media (max-width: 34em) {
  dialog { width: 100vw; height: 100dvh; max-height: none; margin: 0; border: 0; border-radius: 0; }
  ::slotted(iframe) { flex: 1 1 auto !important; height: auto !important; }
}
`);
  return sheet;
}

/**
 * @param {readonly string[]} wanted
 * @returns {string} The first of the languages that there are labels for.
 */
function labelled(wanted) {
  return wanted.map((tag) => tag.toLowerCase().split("-")[0] ?? "").find((tag) => Object.hasOwn(LABELS, tag)) ?? "en";
}

/** @returns {HTMLElement} */
function place() {
  return document.body ?? document.documentElement;
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>} What *promise* brings, unless *signal* comes first.
 */
function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(new ApprovalError("aborted", { cause: signal.reason }));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
