// Tests run in forked processes, because libtorch can be loaded only once per process and must not be shared between files.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['__test__/**/*.test.ts'],
    pool: 'forks',
    // `npm test` has made the clone ready; the CLI that tests start need not look again.
    env: { FLATMIN_BOOTSTRAP: 'off' },
    setupFiles: process.env.FLATMIN_TEST_DEVICE ? ['__test__/support/device.ts'] : [],
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
