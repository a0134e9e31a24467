// Keeps a page of the console up to date, and asks before a button does something.
(function () {
  const token = document.querySelector("meta[name=parcelq-token]").content;
  const dialog = document.getElementById("ask");
  const said = document.getElementById("said");
  let shown = document.querySelector("main").outerHTML;

  function say(text) {
    said.textContent = text;
  }

  async function refresh() {
    const reply = await fetch(location.href, { cache: "no-store" });
    const html = await reply.text();
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("main");
    if (!reply.ok || !fresh) throw new Error("the console answered " + reply.status);
    if (fresh.outerHTML === shown || dialog.open) return;
    const old = document.querySelector("main");
    const part = old.querySelector("#map button[aria-pressed=true]");
    const opened = Array.from(old.querySelectorAll("details"), (one) => one.open);
    const inside = document.activeElement && old.contains(document.activeElement) ? document.activeElement : null;
    const focused = inside && inside.dataset.part;
    shown = fresh.outerHTML;
    old.replaceWith(document.adoptNode(fresh));
    fresh.querySelectorAll("details").forEach((one, at) => (one.open = Boolean(opened[at])));
    window.startReport();
    const again = (name) => fresh.querySelector('#map button[data-part="' + name + '"]');
    if (part && again(part.dataset.part)) again(part.dataset.part).click();
    if (focused && again(focused)) again(focused).focus({ preventScroll: true });
    else if (document.activeElement && fresh.contains(document.activeElement)) document.activeElement.blur();
  }

  async function act(button) {
    const order = { action: button.dataset.action, kind: button.dataset.kind || "", range: button.dataset.range || "" };
    const reply = await fetch(location.pathname + "/act", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Parcelq-Token": token },
      body: JSON.stringify(order),
    });
    const answer = await reply.json();
    say(answer.said || answer.error);
    await refresh();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.act");
    if (!button) return;
    dialog.querySelector("p").textContent = button.dataset.ask;
    dialog.onclose = () => {
      if (dialog.returnValue === "yes") act(button).catch((error) => say("That failed: " + error.message));
    };
    dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.querySelectorAll("button").forEach((one) => one.addEventListener("click", () => dialog.close(one.value)));

  (async function () {
    for (;;) {
      await new Promise((done) => setTimeout(done, document.hidden ? 10000 : 1500));
      try {
        await refresh();
      } catch (error) {
        say("The console does not answer. It may have been stopped.");
      }
    }
  })();
})();
