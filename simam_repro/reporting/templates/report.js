// Filters and "open all"; without it everything is there, folded.
const filters = document.querySelector(".filters");
filters.hidden = false;
function choose() {
  const chosen = [...filters.querySelectorAll("select")].filter(select => select.value);
  for (const one of document.querySelectorAll("[data-module]"))
    one.hidden = chosen.some(select => !JSON.parse(one.dataset[select.name]).includes(select.value));
}
filters.addEventListener("change", choose);
choose();
filters.querySelector("button").addEventListener("click", () => {
  const all = [...document.querySelectorAll("details")], open = all.some(one => !one.open);
  for (const one of all) one.open = open;
});
function unfold() {
  const target = document.getElementById(location.hash.slice(1))?.nextElementSibling;
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", unfold);
unfold();
