// A site that opens the approval page by hand, with whatever it likes around it, and keeps what it hears.
const { ott, page, flow, target, style } = JSON.parse(new URLSearchParams(location.search).get("plan"));

window.heard = [];
addEventListener("message", ({ origin, data }) => heard.push([origin, data]));

/** Post the form into a frame or a window of that name. */
window.post = (fields = {}) => {
  const form = Object.assign(document.createElement("form"), { method: "POST", action: page, target });
  const all = { ott, libVersion: "1", parentHostname: location.hostname, flow, ...fields };
  for (const [name, value] of Object.entries(all)) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  document.body.append(form);
  form.submit();
};

document.querySelector("#pay").addEventListener("click", () => {
  if (flow === "iframe") {
    const frame = Object.assign(document.createElement("iframe"), { name: target, title: "Approval" });
    frame.style.cssText = style ?? "width: 480px; height: 900px";
    document.querySelector("main").append(frame);
  } else {
    window.opened = open("", target, flow === "popup" ? "popup,width=480,height=700" : "");
  }
  post();
});
document.documentElement.dataset.ready = "";
