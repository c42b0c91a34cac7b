// `npm run test:storm [-- --kills=N --acquisitions=N --seed=N --seconds=N]` and `npm run test:gate-storm [-- --kills=N --seed=N --seconds=N]`:
// processes that are killed at random moments, and a witness of what was promised. `npm test` has a shorter form of both.
import { run, setUp } from './setup.mjs'

setUp()
run(process.execPath, ['out/test/storm/main.js', ...process.argv.slice(2)])
