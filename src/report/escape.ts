// HTML escaping: a tagged template that escapes every value, so that names and paths cannot become markup.

/** Markup that is already safe. */
export class Html {
  constructor(readonly markup: string) {}
  toString(): string {
    return this.markup;
  }
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Escapes text for use between tags and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}

type Value = Html | string | number | readonly Html[];

const render = (value: Value): string => {
  if (value instanceof Html) return value.markup;
  return Array.isArray(value) ? value.map(render).join('') : escapeHtml(String(value));
};

/** Builds markup; values are escaped unless they are {@link Html}. */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Html {
  return new Html(parts.reduce((markup, part, index) => markup + render(values[index - 1] ?? '') + part));
}
