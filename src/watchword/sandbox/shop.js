// A shop that knows of approvals only what stands here: its calls go through `stepUpFetch`.
import { ApprovalError, stepUpFetch } from "/watchword.js";

const form = document.getElementById("order");
const button = form.querySelector("button");
const log = document.getElementById("log");
const end = document.getElementById("end");
const outcome = document.getElementById("outcome");
const WHY = {
  closed: "You closed the approval page. Nothing was paid.",
  failed: "It was not approved. Nothing was paid.",
  blocked: "Your browser blocked the window. Allow it for this page, or choose “over this page”. Nothing was paid.",
  aborted: "It was called off. Nothing was paid.",
};

function tell(text) {
  log.append(Object.assign(document.createElement("li"), { textContent: text }));
}

function finish(text, good) {
  outcome.textContent = text;
  outcome.classList.toggle("good", good);
  end.hidden = false;
  outcome.focus();
}

async function pay(flow) {
  const transfer = 10_000_000 + Math.floor(Math.random() * 80_000_000);
  const path = `/v3/profiles/435036/transfers/${transfer}/payments`;
  const fetch = stepUpFetch({
    flow,
    title: "Approve the payment",
    onStart: () => tell("The bank wants an approval: 403, with a one-time token. The approval page opens."),
    onEnd: (error) => error || tell("Approved. The same call goes out again, now with the token."),
  });
  tell(`The shop asks the bank to pay: POST ${path}`);
  const response = await fetch(path, {
    method: "POST",
    headers: { authorization: "Bearer demo-ada", "content-type": "application/json" },
    body: JSON.stringify({ type: "BALANCE" }),
  });
  tell(`The bank answers: ${response.status} ${response.ok ? "COMPLETED" : ""}`);
  if (response.ok) finish("Paid. The token is spent: it pays nothing else, and nothing twice.", true);
  else finish(`The bank did not pay: it answered ${response.status}.`, false);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  end.hidden = true;
  log.replaceChildren();
  try {
    await pay(new FormData(form).get("flow"));
  } catch (error) {
    const known = error instanceof ApprovalError;
    finish(known ? WHY[error.reason] : "The bank cannot be reached. Nothing was paid as far as we know.", false);
  }
  button.ariaDisabled = "false";
});
