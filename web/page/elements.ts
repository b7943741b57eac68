/** Elements of `index.html`, found once, and small helpers to fill them. Text only: names in files may hold anything. */

/** Returns the element with this id. Throws TypeError if it is missing, or another kind. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`The page has no ${kind.name} "${id}"`);
  return element;
}

/** Shows `text` in an element, or hides it if there is none. */
export function say(element: HTMLElement, text: string | null): void {
  element.hidden = text === null;
  element.textContent = text ?? "";
}

/** Fills a list of terms with what they mean; null is left out. */
export function fillFacts(
  list: HTMLElement,
  facts: readonly (readonly [term: string, meaning: string | null])[],
): void {
  list.replaceChildren(
    ...facts.flatMap(([term, meaning]) => {
      if (meaning === null) return [];
      const dt = document.createElement("dt");
      const dd = document.createElement("dd");
      dt.textContent = term;
      dd.textContent = meaning;
      return [dt, dd];
    }),
  );
}

/** Fills a list with sentences; an empty one is hidden. */
export function fillList(list: HTMLElement, sentences: readonly string[]): void {
  list.hidden = sentences.length === 0;
  list.replaceChildren(...sentences.map((sentence) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  }));
}

/** Fills an element with radio buttons; the one with `chosen` is on, or the first. */
export function fillChoices(
  place: HTMLElement,
  name: string,
  choices: readonly { readonly id: string; readonly title: string; readonly words: string }[],
  chosen: string | null,
): void {
  const on = choices.some(({ id }) => id === chosen) ? chosen : choices[0]?.id;
  place.replaceChildren(...choices.map(({ id, title, words }) => {
    const input = document.createElement("input");
    Object.assign(input, {
      type: "radio",
      name,
      value: id,
      id: `${name}-${id}`,
      checked: id === on,
    });
    const label = document.createElement("label");
    label.htmlFor = input.id;
    const strong = document.createElement("b");
    strong.textContent = title;
    label.append(strong, words);
    const row = document.createElement("div");
    row.className = "choice";
    row.append(input, label);
    return row;
  }));
}

/** Returns the value of the radio button that is on; null: there is none. */
export function chosenOf(place: HTMLElement): string | null {
  return place.querySelector<HTMLInputElement>("input:checked")?.value ?? null;
}

/** Returns a link that saves `blob` under `name`. */
export function saveLink(text: string, blob: Blob, name: string): HTMLAnchorElement {
  const link = document.createElement("a");
  link.className = "button";
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.textContent = text;
  return link;
}
