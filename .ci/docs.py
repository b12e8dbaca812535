"""For mkdocs: the page of recipes is made from the classes that check them."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from muhdi.recipe.docs import reference_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add recipes.md."""
    files.append(File.generated(config, "recipes.md", content=reference_page()))
    return files
