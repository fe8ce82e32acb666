// @ts-check
// The page works without it. With it the page goes on without loading anew, counts down, and tells
// its opener how it ended; that is no authority, the server decides.

const OUTCOME = "tw-approve-api-action-";
const SIZER = "[iFrameSizer]";
/** A click sooner than this after the page came into sight was meant for something else. */
const FRESH_MS = 800;

const root = document.documentElement;
const framed = window.parent !== window;
/** @type {Window | null} */
const owner = framed ? window.parent : window.opener;
const live = /** @type {HTMLElement} */ (document.getElementById("live"));

let main = /** @type {HTMLElement} */ (document.getElementById("main"));
/** @type {string[]} The origins that may be told how it ended. */
let openers = [];
/** What was told last. */
let told = "";
/** @type {AbortController | undefined} The form that is on its way. */
let sending;

// --- the opener ---

/** @param {string} origin */
function allowed(origin) {
  return openers.some((entry) =>
    entry.endsWith(":*")
      ? origin.startsWith(entry.slice(0, -2)) && /^(:\d{1,5})?$/.test(origin.slice(entry.length - 2))
      : entry === origin,
  );
}

/** Where messages go: to the opener's origin where it is known, or to all that it may be. */
function targets() {
  if (!owner || owner.closed) return [];
  let origin = "";
  if (framed) {
    origin = location.ancestorOrigins?.[0] ?? "";
    if (origin) return allowed(origin) ? [origin] : [];
  } else {
    // A frame of ours opened this window; it passes on what it is told.
    try {
      if (owner.location.origin === location.origin) return [location.origin];
    } catch {} // Another origin, as usual.
  }
  origin = document.referrer && new URL(document.referrer).origin;
  return allowed(origin) ? [origin] : openers.filter((entry) => !entry.endsWith(":*"));
}

/** @param {string} outcome */
function tell(outcome) {
  const origins = targets();
  if (outcome !== told) for (const origin of origins) owner?.postMessage(outcome, origin);
  told = outcome;
  return origins.length > 0;
}

/** @type {{id: string, origin: string} | undefined} */
let sizer;

/** @param {string} type */
function report(type) {
  const { width, height } = document.body.getBoundingClientRect();
  const size = `${Math.ceil(height)}:${Math.ceil(width)}`;
  if (sizer) window.parent.postMessage(`${SIZER}${sizer.id}:${size}:${type}`, sizer.origin);
}

if (framed) new ResizeObserver(() => report("size")).observe(document.body);

window.addEventListener("message", ({ data, origin, source }) => {
  if (typeof data !== "string" || data.length > 500) return;
  if (framed && source === window.parent && data.startsWith(SIZER)) {
    // The host of iframe-resizer 4 sends its settings, which begin with the name that it has for us.
    const [id, ...settings] = data.slice(SIZER.length).split(":");
    if (!/^[\w-]{1,64}$/.test(id) || settings.length < 5 || sizer?.id === id || !allowed(origin)) return;
    sizer = { id, origin };
    report("init");
  } else if (main.dataset.screen === "window" && origin === location.origin && data.startsWith(OUTCOME)) {
    tell(data);
  }
});

// --- being seen ---

let freshSince = 0;
let readyTimer = 0;

/** Begin to wait anew: what is under the pointer may just have come there. */
function fresh() {
  freshSince = performance.now();
  delete root.dataset.ready;
  clearTimeout(readyTimer);
  readyTimer = setTimeout(() => (root.dataset.ready = ""), FRESH_MS);
}

// A frame is focused by the very click that is meant for it; there its visibility counts instead.
window.addEventListener("focus", () => framed || fresh());
document.addEventListener("visibilitychange", fresh);
document.addEventListener(
  "click",
  (event) => {
    const button = event.target instanceof Element && event.target.closest("button");
    // `detail` is 0 for a key.
    if (button && event.detail > 0 && performance.now() - freshSince < FRESH_MS) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  },
  true,
);

/**
 * What must be in view: each thing that is approved, and each control. A part that our own window does
 * not show is the person's scrolling; one that it shows and the screen does not is the embedder's doing.
 *
 * @type {Map<Element, {control: boolean, at: number, bad: boolean, since: number, seen: boolean}>}
 */
const parts = new Map();
const LOOK_MS = 150;
/** After so long without a look nobody knows whether it was in view. */
const GAP_MS = 1000;
/** By then what lies over the page since a form was sent was looked at. */
const LAG_MS = 300;
const looking = /** @type {IntersectionObserverInit} */ ({ trackVisibility: true, delay: 100 });
/** Keeps the browser minding what lies over the page between two looks. */
const minding = new IntersectionObserver(() => undefined, looking);

/** @param {number} ms */
const pause = (ms) => new Promise((go) => setTimeout(go, ms));

/** @param {IntersectionObserverEntry & {isVisible?: boolean}} entry */
function judge({ target, boundingClientRect: box, intersectionRect: shown, isVisible }) {
  const part = parts.get(target);
  if (!part) return;
  const now = performance.now();
  const high = Math.min(box.bottom, root.clientHeight) - Math.max(box.top, 0);
  const wide = Math.min(box.right, root.clientWidth) - Math.max(box.left, 0);
  const here = Math.max(high, 0) * Math.max(wide, 0);
  const all = box.width * box.height;
  // Where the browser cannot tell whether something lies over it, being inside the window has to do.
  const clear = isVisible !== false && shown.width * shown.height >= 0.9 * here;
  const bad = here >= 0.2 * all && !clear;
  const inside = !bad && all > 0 && here >= 0.9 * all;
  if (now - part.at > GAP_MS) part.since = Infinity;
  if (part.control && part.bad && inside) fresh();
  part.since = inside ? Math.min(part.since, now) : Infinity;
  part.seen ||= now - part.since >= FRESH_MS;
  part.bad = bad;
  part.at = now;
}

/** Look at all parts at one moment: an observer that reports only changes would miss slow ones. */
const look = () =>
  new Promise((done) => {
    let left = parts.size;
    const observer = new IntersectionObserver((entries) => {
      entries.forEach(judge);
      if ((left -= entries.length) > 0) return;
      observer.disconnect();
      done(undefined);
    }, looking);
    for (const element of parts.keys()) observer.observe(element);
  });

async function watch() {
  const screen = main;
  minding.disconnect();
  parts.clear();
  if (!framed || !("mustBeSeen" in screen.dataset)) return;
  for (const element of screen.querySelectorAll("[data-watch]")) {
    parts.set(element, { control: element.matches("input, button"), at: 0, bad: true, since: Infinity, seen: false });
    minding.observe(element);
  }
  while (parts.size && screen === main) {
    await look();
    await pause(LOOK_MS);
  }
}

// What a smaller window no longer shows has to be seen again.
window.addEventListener("resize", () => {
  for (const part of parts.values()) Object.assign(part, { since: Infinity, seen: false });
});

/**
 * Whether what is approved was in view on this screen, and nothing that we show is hidden.
 *
 * @param {number} from Looks before it do not count.
 * @param {Element | undefined} used Of several ways only the one that was picked has to be in view.
 */
function inView(from, used) {
  const all = [...parts].filter(([element]) => element === used || !element.matches(".way")).map(([, part]) => part);
  return (
    all.every(({ at, bad, control, seen }) => at > from && !bad && (control || seen)) &&
    (!all.length || all.some(({ control, at, since }) => control && at - since >= FRESH_MS))
  );
}

/** Wait until it is in view; what is not shown yet is scrolled to, in the embedder's window too where that works. */
async function comesIntoView() {
  const from = performance.now() + LAG_MS;
  const focused = document.activeElement;
  const controls = [...parts.keys()].filter((element) => element.matches("input, button"));
  const control = controls.find((element) => element === focused) ?? controls[0];
  for (const [element, part] of parts) {
    if (part.control && element !== control) continue;
    for (let waits = 20; waits && !(part.control ? inView(from, control) : part.seen); waits--) {
      if (part.since === Infinity) element.scrollIntoView({ block: "nearest" });
      await pause(100);
    }
    if (!part.control && !part.seen) break;
  }
  return inView(from, control);
}

// --- one screen ---

/**
 * @param {number} seconds
 * @param {(left: number) => void} tick
 */
function countDown(seconds, tick) {
  const end = Date.now() + seconds * 1000;
  const screen = main;
  const step = () => {
    if (screen !== main) return;
    const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    tick(left);
    if (left) setTimeout(step, (end - Date.now()) % 1000 || 1000);
  };
  step();
}

/** @param {string | undefined} text */
const say = (text) => (live.textContent = text ?? "");

/** @param {boolean} first The document came with this screen. */
function show(first) {
  const { outcome } = main.dataset;
  openers = JSON.parse(main.dataset.openers || "[]");
  fresh();
  say("");

  const format = new Intl.DateTimeFormat(`${root.lang}-u-nu-latn`, { hour: "numeric", minute: "2-digit" });
  for (const time of main.querySelectorAll("time")) time.textContent = format.format(new Date(time.dateTime));
  for (const hint of main.querySelectorAll("p")) {
    const { wait, button: id, then, ends } = hint.dataset;
    const left = hint.querySelector("[data-left]");
    const button = /** @type {HTMLButtonElement | null} */ (id && document.getElementById(id));
    if (wait) {
      countDown(+wait, (seconds) => {
        if (button) button.disabled = seconds > 0;
        if (left) left.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
        if (!seconds) say((hint.textContent = then ?? ""));
      });
    }
    if (ends) {
      countDown(+ends, (seconds) => {
        if (!seconds) void timeIsUp();
        else if (seconds <= 60 && !hint.classList.contains("soon")) {
          hint.classList.add("soon");
          hint.append(` ${live.dataset.minute}`);
          say(live.dataset.minute);
        }
      });
    }
  }
  // The server says in the page's language what the browser would say in its own.
  for (const form of main.querySelectorAll("form")) form.noValidate = true;
  void watch();

  const heard = outcome ? tell(outcome) : targets().length > 0;
  for (const part of /** @type {NodeListOf<HTMLElement>} */ (main.querySelectorAll("[data-back], [data-alone]"))) {
    part.hidden = heard === ("alone" in part.dataset);
  }
  // A window that a frame of ours opened has nobody else to close it.
  if (outcome && targets().includes(location.origin)) window.close();

  const focus = main.querySelector("#answer") ?? main.querySelector("[role=alert]") ?? main.querySelector("h1");
  // What is approved is read out once, on the first screen.
  for (const described of first ? [] : main.querySelectorAll("[aria-describedby]")) {
    described.setAttribute("aria-describedby", described.getAttribute("aria-describedby")?.replace(/\bwhat\b/, "") ?? "");
  }
  if (focus instanceof HTMLElement && (!first || framed || focus.id)) {
    focus.focus({ preventScroll: true });
    if (!first) {
      scrollTo(0, 0);
      focus.scrollIntoView({ block: "nearest" });
    }
  }
}

// --- forms ---

/**
 * Say that a form came to nothing; what was typed stays.
 *
 * @param {string | undefined} text
 */
function failed(text) {
  const { error } = live.dataset;
  main.querySelector("#failed")?.remove();
  const box = Object.assign(document.createElement("div"), { id: "failed", className: "box error", tabIndex: -1 });
  box.setAttribute("role", "alert");
  box.textContent = text ?? "";
  main.prepend(box);
  say("");
  if (!document.title.startsWith(`${error}`)) document.title = `${error} ${document.title}`;
  box.focus();
}

/**
 * @param {string} action
 * @param {URLSearchParams} fields
 * @param {Element | null} [button] The one that was pressed.
 */
async function send(action, fields, button) {
  const mine = new AbortController();
  sending?.abort();
  sending = mine;
  main.setAttribute("aria-busy", "true");
  const label = [...(button?.childNodes ?? [])];
  const late = setTimeout(() => mine.abort(), 30_000);
  const slow = setTimeout(() => {
    say(live.dataset.moment);
    button?.replaceChildren(live.dataset.moment ?? "");
  }, 1000);
  try {
    if (/^(choose|send|answer)$/.test(fields.get("do") ?? "") && (await comesIntoView())) fields.set("seen", "1");
    if (mine !== sending) return;
    const answer = await fetch(action, {
      method: "POST",
      body: fields,
      credentials: "same-origin",
      signal: mine.signal,
    });
    // Not DOMParser: it would hold the answer's own style against our Content-Security-Policy.
    const next = Object.assign(document.createElement("template"), { innerHTML: await answer.text() }).content;
    if (mine !== sending) return;
    const screen = next.getElementById("main");
    // Somebody between us and the server answered.
    if (!screen) return failed(live.dataset.trouble);
    main.replaceWith(screen);
    main = screen;
    document.title = next.querySelector("title")?.textContent ?? "";
    show(false);
  } catch {
    const kept = main.querySelector("#answer") ? live.dataset.kept : "";
    if (mine === sending) failed(`${live.dataset.offline} ${kept}`.trim());
  } finally {
    clearTimeout(late);
    clearTimeout(slow);
    button?.replaceChildren(...label);
    if (mine === sending) {
      main.removeAttribute("aria-busy");
      sending = undefined;
    }
  }
}

/** Nothing more can be confirmed here: show what the server says now. */
async function timeIsUp() {
  const screen = main;
  const page = /** @type {HTMLInputElement | null} */ (main.querySelector("[name=page]"));
  if (sending || !page?.form) return;
  await send(page.form.getAttribute("action") ?? "", new URLSearchParams({ page: page.value, do: "" }));
  if (screen !== main) say(main.querySelector("h1")?.textContent ?? "");
}

document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  const button = event.submitter;
  const closing = button?.hasAttribute("data-close");
  if (form.target) {
    const went = /** @type {HTMLElement | null} */ (main.querySelector("[data-went]"));
    if (went) went.hidden = false;
    went?.scrollIntoView({ block: "nearest" });
    say(went?.textContent ?? "");
    return;
  }
  event.preventDefault();
  if (sending && !closing) return;
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form, button)) fields.append(name, String(value));
  if (closing) tell(main.dataset.onClose || `${OUTCOME}closed`);
  if (fields.has("page")) void send(form.getAttribute("action") ?? "", fields, button);
  else window.close();
});

// Only where there is somewhere to go back to, and not where it may be meant for what was typed.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || event.defaultPrevented || !owner) return;
  const answer = /** @type {HTMLInputElement | null} */ (main.querySelector("#answer"));
  const button = main.querySelector("form:not([hidden]) [data-close]");
  if (button instanceof HTMLButtonElement && (sending || !answer?.value)) button.click();
});

show(true);
