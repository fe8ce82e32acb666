// What a shop does with the published helper, as its documentation says.
const { url, init, page, options } = JSON.parse(new URLSearchParams(location.search).get("plan"));
const { create } = window.twApproveApiActionHelpers;

window.results = [];
window.stages = [];
const request = create({
  flow: options.flow,
  approvalPageUrl: page,
  onSCARequired: () => stages.push("start"),
  onSCACompleted: () => stages.push("end"),
});

document.querySelector("#pay").addEventListener("click", () => {
  request(url, init).then(
    async (response) => results.push({ status: response.status, body: await response.text() }),
    (error) => results.push({ error: String(error?.message) }),
  );
});
document.documentElement.dataset.ready = "";
