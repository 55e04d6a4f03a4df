// Bring the page to what the server has computed: what its controls stand at, some panels, and its address.
function show({ values, panels, link }) {
  for (const [name, [value, text]] of Object.entries(values)) setControl(name, value, text);
  for (const [name, parts] of Object.entries(panels)) {
    const panel = document.getElementById(`panel-${name}`);
    for (const [part, content] of Object.entries(parts)) panel.querySelector(`.${part}`).innerHTML = content;
  }
  // A changed address makes the browser read the page's icon again, so it comes after the pictures have been painted.
  if (link) requestAnimationFrame(() => setTimeout(() => history.replaceState(null, "", link)));
}

function setControl(name, value, text) {
  const control = document.getElementById(name);
  if (value !== null) control.value = value;
  if (text === undefined) return;
  control.setAttribute("aria-valuetext", text);
  const typed = document.getElementById(`${name}-typed`);
  // Somebody may be typing there.
  if (typed !== document.activeElement) typed.value = text;
}
