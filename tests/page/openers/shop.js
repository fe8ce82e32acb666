// What a shop does with the module; the test says in the query which module, which call and how.
const { module, url, init, options, calls, unasked } = JSON.parse(new URLSearchParams(location.search).get("plan"));
const { approve, stepUpFetch, ApprovalError } = await import(module);

window.results = [];
window.stages = [];
window.approve = approve;
window.stepUpFetch = stepUpFetch;
window.controller = new AbortController();

/** Keep how a promise ended. */
window.keep = (promise) =>
  promise.then(
    async (response) => results.push(response ? { status: response.status, body: await response.text() } : {}),
    (error) => {
      results.push({
        error: error.name,
        reason: error.reason,
        ours: error instanceof ApprovalError,
        cause: error.cause?.name,
      });
    },
  );

/** Call as the test wants; what differs from its plan is given. */
window.call = (different = {}) => {
  const given = { ...options, signal: controller.signal, ...different.options };
  given.onStart = () => stages.push("start");
  given.onEnd = (error) => stages.push(error ? `end: ${error.reason}` : "end");
  return stepUpFetch(given)(url, { ...init, ...different.init });
};

document.querySelector("#pay").addEventListener("click", () => {
  for (let number = 0; number < (calls ?? 1); number++) keep(call());
});
// Nobody clicked; and whoever drives the browser must not touch the page either, since that counts as a click.
if (unasked) keep(call()).then(() => console.info("settled"));
document.documentElement.dataset.ready = "";
