// CPU of processes, from /proc.
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ of Linux, everywhere. */
const TICKS_PER_SECOND = 100;

function stat(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name may have blanks and brackets in it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND };
}

/** Of all of them together, in user and kernel mode. Throws when one has ended. */
export function cpuSeconds(pids) {
  return pids.reduce((sum, pid) => sum + stat(pid).seconds, 0);
}

/** Of each descendant of `root` but those of `without`: a map from process ids. */
export function cpuSecondsBelow(root, without) {
  const all = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      all.set(Number(name), stat(name));
    } catch {
      // It has ended in between.
    }
  }
  const below = (pid) => {
    for (let at = all.get(pid)?.parent; at; at = all.get(at)?.parent) if (at === root) return true;
    return false;
  };
  return new Map([...all].filter(([pid]) => !without.includes(pid) && below(pid)).map(([pid, { seconds }]) => [pid, seconds]));
}
