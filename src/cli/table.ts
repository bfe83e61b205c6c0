// Plain text tables for terminals: numbers to the right, words to the left.

/** Lays out `rows` under `head`; a column is right-aligned when all its cells begin with a digit, a sign or a dash. */
export function textTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const columns = head.map((title, index) => {
    const cells = rows.map((row) => row[index] ?? '');
    return {
      width: Math.max(title.length, ...cells.map((cell) => cell.length)),
      numeric: cells.length > 0 && cells.every((cell) => /^[-+\d]/.test(cell)),
    };
  });
  const line = (cells: readonly string[]) =>
    columns
      .map(({ width, numeric }, index) =>
        numeric ? (cells[index] ?? '').padStart(width) : (cells[index] ?? '').padEnd(width),
      )
      .join('  ')
      .trimEnd();
  return [line(head), columns.map(({ width }) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}
