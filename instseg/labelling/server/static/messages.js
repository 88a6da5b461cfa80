// What the page tells the person: a line that screen readers read out, and notices that stay while they are true.

const live = document.getElementById("live");
const notices = document.getElementById("notices");

/** Words as a sentence begins. */
export const sentence = (words) => words && words[0].toUpperCase() + words.slice(1);

/** Says what happened, at the bottom of the page and to screen readers. */
export function say(text) {
  if (live.textContent === text) live.textContent = "";
  live.textContent = text;
}

/** Shows the notice `name`, or takes it away where `text` is null; `button` is { label, press }. */
export function notice(name, text, button) {
  const before = notices.querySelector(`[data-name="${name}"]`);
  if (!text) {
    before?.remove();
    return;
  }
  if (before?.dataset.text === text) return;
  const line = document.createElement("p");
  const words = document.createElement("span");
  line.dataset.name = name;
  line.dataset.text = text;
  words.className = "grow";
  words.textContent = sentence(text);
  line.append(words);
  if (button) {
    const press = document.createElement("button");
    press.textContent = button.label;
    press.addEventListener("click", button.press);
    line.append(press);
  }
  if (before) before.replaceWith(line);
  else notices.append(line);
}
