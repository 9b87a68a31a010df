"""From raw releases to batches: tables, protocols, transforms, DataModules."""
