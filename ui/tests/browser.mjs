// Chromium for the tests and the pictures: Debian's, never one that is downloaded.
import { chromium } from 'playwright-core';

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** What was written to the console as an error, and what the CSP kept out, is a fault of the page. */
export function watch(page) {
  const faults = [];
  page.on('pageerror', (error) => faults.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    // A refused call and a refused handshake are answers, which the page shows.
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection to/.test(message.text())) faults.push(`console: ${message.text()}`);
  });
  return faults;
}
