// The dialog that asks for an API key.

let asking = null;

/** The key that the user types, or null. Requests that are refused at the same time wait for one answer. */
export function wantKey(words) {
  asking ??= asked(words).finally(() => (asking = null));
  return asking;
}

function asked(words) {
  const dialog = document.getElementById("key");
  const box = document.getElementById("key-box");
  document.getElementById("key-words").textContent = words;
  document.getElementById("key-cancel").onclick = () => dialog.close("");
  box.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  box.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? box.value.trim() : null), { once: true });
  });
}
