"use strict";
// Without this script the page is complete; with it, what changes on the server changes here too.
const box = document.getElementById("refresh");
box.closest("label").hidden = false;

async function refresh() {
  const reading = getSelection().type === "Range";
  if (!box.checked || document.hidden || reading) return;
  const answer = await fetch("/sandbox");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector("[data-live=" + part.dataset.live + "]");
    const focused = part.contains(document.activeElement);
    if (next && !focused && next.outerHTML !== part.outerHTML) part.replaceWith(document.adoptNode(next));
  }
}

setInterval(() => refresh().catch(() => undefined), 2000);
