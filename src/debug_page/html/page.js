
"use strict";
(() => {
  const INTERVAL_MS = 2000;
  const liveSwitch = document.getElementById("live-switch");
  const liveState = document.getElementById("live-state");

  // Replaces the content of the page by that of a new one. A link keeps the focus.
  async function update() {
    const response = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
    if (!response.ok) throw new Error(`${response.status}`);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const content = page.getElementById("live-content");
    const old = document.getElementById("live-content");
    const selection = getSelection();
    if (!content || (selection && !selection.isCollapsed && old.contains(selection.anchorNode))) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(content);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async function run() {
    if (liveSwitch.getAttribute("aria-pressed") === "true" && !document.hidden) {
      try {
        await update();
        liveState.textContent = `as of ${new Date().toLocaleTimeString()}`;
      } catch (error) {
        liveState.textContent = `the program does not answer (${error.message})`;
      }
    }
    setTimeout(run, INTERVAL_MS);
  }

  if (liveSwitch) {
    liveSwitch.hidden = false;
    liveSwitch.addEventListener("click", () => {
      const pressed = liveSwitch.getAttribute("aria-pressed") !== "true";
      liveSwitch.setAttribute("aria-pressed", pressed);
    });
    setTimeout(run, INTERVAL_MS);
  }

  for (const button of document.querySelectorAll("button[data-post]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const response = await fetch(button.dataset.post, { method: "POST", headers: { "x-nettrace": "1" } });
        if (!response.ok) throw new Error(await response.text());
        location.reload();
      } catch (error) {
        button.textContent = error.message;
      }
    });
  }
})();
