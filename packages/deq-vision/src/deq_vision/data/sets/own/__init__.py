"""Pictures of one's own, in any of three layouts: folders of classes, pictures with masks, pictures with boxes."""
