"""Records beside a variant: card, model card, bill of materials, evidence."""
