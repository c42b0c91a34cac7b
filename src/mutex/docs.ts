/**
 * How a message names a page of `docs/`, which travels in the package. It is the place where developers have the page:
 * the program that fails may be a bundle or an archive, in which no path to the page can be opened.
 */
export function docsPage(name: `${string}.md`): string {
  return `node_modules/os-mutex/docs/${name}`
}
