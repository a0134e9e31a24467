// Keeps a page of the console up to date, and asks before a button does something.
(function () {
  const token = document.querySelector("meta[name=parcelq-token]").content;
  const dialog = document.getElementById("ask");
  const said = document.getElementById("said");
  let problem = "";
  let silence = 0;
  let shown = document.querySelector("main").outerHTML;

  function say(text) {
    said.textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => (said.textContent = ""), 20000);
  }

  async function refresh() {
    const reply = await fetch(location.href, { cache: "no-store" });
    const html = await reply.text();
    if (!reply.ok) throw new Error(html.trim());
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("main");
    if (problem && said.textContent === problem) say("");
    if (fresh.outerHTML === shown || dialog.open) return;
    const old = document.querySelector("main");
    const part = old.querySelector("#map button[aria-pressed=true]");
    const opened = Array.from(old.querySelectorAll("details"), (one) => one.open);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    shown = fresh.outerHTML;
    old.replaceWith(document.adoptNode(fresh));
    fresh.querySelectorAll("details").forEach((one, at) => (one.open = Boolean(opened[at])));
    const live = old.querySelector("#chosen");
    if (part && live && fresh.querySelector("#chosen")) fresh.querySelector("#chosen").replaceWith(live);
    window.startReport();
    const again = part && fresh.querySelector('#map button[data-part="' + part.dataset.part + '"]');
    if (again) again.click();
    const same = focused && Array.from(fresh.querySelectorAll(focused.tagName)).find((one) => alike(one, focused));
    if (same) same.focus({ preventScroll: true });
    else if (fresh.contains(document.activeElement)) document.activeElement.blur();
    const state = (main) => main.querySelector("#verdict strong")?.textContent;
    if (state(fresh) !== state(old)) say(fresh.querySelector("#verdict p").textContent);
  }

  // Whether two elements are the same for somebody who uses the keyboard, before and after a refresh.
  function alike(one, other) {
    const name = (of) => [of.id, of.dataset.part, of.dataset.action, of.dataset.kind, of.dataset.range].join("|");
    return name(one) === name(other) && (one.dataset.part || one.textContent === other.textContent || one.id);
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
        problem = error instanceof TypeError ? "The console does not answer. It may have been stopped." : error.message;
        if (said.textContent !== problem) say(problem);
      }
    }
  })();
})();
