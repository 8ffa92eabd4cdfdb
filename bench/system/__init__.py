"""The machine underneath: errors, files and cache folders, progress, terminal, environment. It knows no network."""
