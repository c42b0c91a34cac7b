// Reads binding.gyp, so that the prebuilt addons and the ones that node-gyp builds come from the same sources and flags.
// Of gyp's language it knows what that file uses, and refuses the rest.
import { readFileSync } from 'node:fs'

const lists = ['sources', 'include_dirs', 'defines', 'cflags', 'cflags_cc', 'libraries']
// Of other generators than ours: node-gyp's common settings, Visual Studio's and Xcode's, which say the same in their words.
const ignored = ['target_name', 'cflags_cc!', 'msvs_settings', 'xcode_settings', 'conditions']
// A command that gyp runs. toolchain.mjs knows the folder, too.
const nodeAddonApi = `<!(node -p "require('node-addon-api').include_dir")`

/** What binding.gyp says for an OS, by gyp's name of it: `linux`, `win` or `mac`. */
export function readGyp(file, os) {
  const [target, ...others] = JSON.parse(toJson(readFileSync(file, 'utf8'))).targets
  if (others.length > 0) throw new Error(`${file} has more than one target`)
  const result = Object.fromEntries(lists.map((key) => [key, []]))
  for (const settings of [target, ...chosen(target.conditions ?? [], os, file)]) {
    for (const [key, value] of Object.entries(settings)) {
      if (key === 'include_dirs') result[key].push(...value.filter((folder) => folder !== nodeAddonApi))
      else if (lists.includes(key)) result[key].push(...value)
      else if (!ignored.includes(key))
        throw new Error(`${file} has "${key}", which ${import.meta.filename} does not know`)
    }
  }
  return result
}

function chosen(conditions, os, file) {
  return conditions.flatMap(([condition, then, otherwise]) => {
    const [, operator, name] = /^OS(==|!=)'(\w+)'$/.exec(condition) ?? []
    if (name === undefined) throw new Error(`${file} has the condition "${condition}", which can't be read here`)
    return ((operator === '==') === (name === os) ? then : otherwise) ?? []
  })
}

/** Comments and trailing commas are what makes the file no JSON. */
function toJson(text) {
  return text.replace(/("(?:[^"\\]|\\.)*")|#.*|,(?=\s*[\]}])/g, (_, string) => string ?? '')
}
