// `npm run test:storm [-- --kills=N --acquisitions=N --seconds=N --seed=N]` and
// `npm run test:gate-storm [-- --kills=N --seconds=N --seed=N]`: processes that are killed at random moments, and a
// witness of what was promised. `npm run test:long` has a shorter form of both. With `--seconds` alone the storm goes on for so
// long; beside `--kills` or `--acquisitions` it is a limit.
import { root, setUp } from './setup.mjs'
import { runToVerdict } from './verdict.mjs'

setUp()
const args = ['out/test/storm/main.js', ...process.argv.slice(2)]
process.exitCode = await runToVerdict(process.execPath, args, { cwd: root, passed: 'STORM PASSED: ' })
