"""How Sphinx builds the website; `build.py` calls it, and `sources.py` has laid out what it reads."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "99.4 % on MNIST with under 8,000 parameters"
html_title = "MNIST with under 8,000 parameters"
author = "the course's authors"
copyright = "MIT licence"
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "extension"]
root_doc = "index"
default_role = "code"  # docstrings write `name` as Markdown does
nitpicky = False

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["course.css"]
html_js_files = ["course.js"]
templates_path = ["templates"]
html_math_renderer = "mathml"
html_use_index = html_domain_indices = False  # the reference has a menu, and the site a search
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "navbar_persistent": [],
    "show_toc_level": 2,
    "home_page_in_toc": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "draw.html", "sbt-sidebar-nav.html"]}
copybutton_selector = "div.cell_input pre, div.highlight-default pre, div.highlight-python pre"
