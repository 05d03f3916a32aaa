// One clock for everything that says how old it is.
import { createSubscriber } from 'svelte/reactivity';

const ticking = createSubscriber((update) => {
  const timer = setInterval(update, 1000);
  return () => clearInterval(timer);
});

/** The present in milliseconds; what reads it inside an effect or template is brought up to date each second. */
export function now(): number {
  ticking();
  return Date.now();
}
