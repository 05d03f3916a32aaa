// Whose a path is already, as the server tells it.

const TAKEN = /the key (.+) is held by document (ep-[0-9a-f]+)/;

/** The path without the names of its parameters, and the endpoint that has it; null where something else is wrong. */
export function takenPath({ code, message }: { code: string; message: string }): { path: string; id: string } | null {
  const found = code === 'path_taken' ? TAKEN.exec(message) : null;
  return found && { path: found[1]!, id: found[2]! };
}
