// Chromium with the pages that show most: the overview, and the Live page with all that passes.

const SHOWN_WITHIN_MILLIS = 15_000;

/** A browser of its own, so that none is there while the pages are closed. `UI_FOLDER` is what scripts/ui.sh prints. */
export async function openPages(admin) {
  const { launch } = await import(`${process.env.UI_FOLDER}/tests/browser.mjs`);
  const browser = await launch();
  try {
    for (const hash of ['#/', '#/live']) {
      // A context each: both are windows that are seen, and none is a tab behind the other.
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
      context.setDefaultTimeout(SHOWN_WITHIN_MILLIS);
      const page = await context.newPage();
      await page.goto(`${admin}/ui/${hash}`);
      await page.getByRole('heading', { level: 1 }).first().waitFor();
      if (await page.evaluate(() => document.hidden)) throw new Error(`${hash} is hidden, and asks for nothing`);
    }
  } catch (error) {
    await browser.close();
    throw error;
  }
  return browser;
}
