// Applies the server's updates to the page, and sends clicks to the server. It has no knowledge of labs:
// lab/view/page.py and drawing.py render all content.
"use strict";

const token = new URLSearchParams(location.search).get("token");
const at = (path) => (token ? `${path}?token=${encodeURIComponent(token)}` : path);
const still = matchMedia("(prefers-reduced-motion: reduce)");

// --- updates: the server sends whole regions; only the differences are applied, so focus and scroll position stay

function same(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

function change(one, wanted) {
  if (one.nodeType !== Node.ELEMENT_NODE) {
    if (one.data !== wanted.data) {
      one.data = wanted.data;
      flash(one.parentElement);
    }
    return;
  }
  // The user's state is not changed: ticked boxes, unfolded details, the animated packet.
  if (one.hasAttribute("data-client")) return;
  for (const { name, value } of [...wanted.attributes])
    if (one.getAttribute(name) !== value) one.setAttribute(name, value);
  for (const { name } of [...one.attributes])
    if (!wanted.hasAttribute(name) && name !== "open" && name !== "aria-busy") one.removeAttribute(name);
  changeChildren(one, wanted);
}

function changeChildren(one, wanted) {
  let here = one.firstChild;
  for (const next of [...wanted.childNodes]) {
    if (here && same(here, next)) {
      change(here, next);
      here = here.nextSibling;
      continue;
    }
    const known = next.id && [...one.children].find((child) => child.id === next.id);
    if (known) {
      one.insertBefore(known, here);
      change(known, next);
    } else one.insertBefore(next, here);
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

function flash(element) {
  if (!element || !element.matches(".path") || still.matches) return;
  element.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }], 900);
}

function show(regions) {
  for (const [id, html] of Object.entries(regions)) {
    const region = document.getElementById(id);
    const parsed = document.createElement("template");
    parsed.innerHTML = html;
    changeChildren(region, parsed.content);
  }
  for (const box of document.querySelectorAll("[data-show]")) showApplication(box);
  const run = document.getElementById("run");
  if (run && run.dataset.run !== followed) {
    followed = run.dataset.run;
    travel(run.dataset.route.split(" "));
  }
}

// --- the followed packet, drawn from node to node

let followed = document.getElementById("run")?.dataset.run;

async function travel(route) {
  const map = [...document.querySelectorAll("svg.map")].find((one) => one.getClientRects().length);
  if (!map || route.length < 2 || still.matches) return;
  const points = route.map((name) => map.querySelector(`[data-node="${name}"]`)).map((one) => [one.dataset.x, one.dataset.y]);
  const frames = points.map(([x, y]) => ({ transform: `translate(${x}px, ${y}px)`, opacity: 1 }));
  map.querySelector(".packet").animate(frames, { duration: 250 * frames.length, easing: "linear" });
}

// --- clicks

function showApplication(box) {
  for (const lane of document.querySelectorAll(`[data-application="${box.dataset.show}"]`))
    lane.classList.toggle("not-shown", !box.checked);
}

const busy = new Set();

async function act(button) {
  const asked = { do: button.dataset.do, target: button.dataset.target };
  const what = JSON.stringify(asked);
  if (busy.has(what)) return;
  busy.add(what);
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(at("do"), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: what,
    });
    const told = await answer.json();
    if (told.download) {
      const link = document.createElement("a");
      link.href = at(told.download);
      link.download = "";
      link.click();
    }
  } finally {
    busy.delete(what);
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) act(button);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-show]")) showApplication(event.target);
});

const events = new EventSource(at("events"));
const lost = document.getElementById("lost");
events.onmessage = (event) => {
  lost.hidden = true;
  document.documentElement.dataset.live = "yes";
  show(JSON.parse(event.data));
};
events.onerror = () => {
  lost.hidden = false;
};
