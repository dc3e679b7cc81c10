"""What people look at: figures, widgets and the sentences beside them. Called by notebooks only."""
