//! The path of Reynolds and Heller: frames cross in the window, without a copy or a message.
