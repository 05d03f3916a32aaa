import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The gateway serves dist/ below /ui/ under a strict Content-Security-Policy: nothing may be inlined.
export default defineConfig({
  base: '/ui/',
  plugins: [svelte()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // One file of styles, with the first page: no page that is loaded later is without its own when the node is gone.
    cssCodeSplit: false,
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
