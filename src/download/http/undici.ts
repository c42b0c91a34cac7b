// The one place that loads undici. It names the file, since Bun replaces a plain `undici` by a module of its own, whose
// agents cannot be destroyed.
import * as undici from 'undici/index.js'

export { undici }
