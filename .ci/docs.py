"""For mkdocs: pages that are made from the code, of recipe keys, commands and data sets."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from muhdi.cli import docs as cli_docs
from muhdi.data.public import docs as data_docs
from muhdi.recipe import docs as recipe_docs

PAGES = {
    "recipes.md": recipe_docs.reference_page,
    "cli.md": cli_docs.reference_page,
    "layouts.md": data_docs.reference_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files
